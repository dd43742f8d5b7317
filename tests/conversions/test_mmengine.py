"""from_mmengine: whole configs, their files, and what it refuses. The rates: test_configs.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fused_warmup import from_mmengine
from fused_warmup.schedules import constant, cosine, linear_warmup

WARMUP = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 10}
COSINE = {"type": "CosineAnnealingLR", "T_max": 9, "begin": 1, "end": 10, "by_epoch": True}
CONFIG = {
    "optim_wrapper": {
        "type": "OptimWrapper",
        "optimizer": {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4},
        "clip_grad": {"max_norm": 35},
    },
    "param_scheduler": [WARMUP, COSINE | {"eta_min": 0.0002}],
    "train_cfg": {"by_epoch": True, "max_epochs": 10, "val_interval": 1},
    "model": {"type": "Detector"},
}


def test_whole_config() -> None:
    rates = from_mmengine(CONFIG, epoch_length=10)
    wanted = linear_warmup(9, 0.1).lasting(10).then(cosine(9, end=0.01).stretched(10))
    assert rates.schedule(range(100)) == pytest.approx(wanted(range(100)), rel=1e-13)
    assert rates.schedule.steps == 100
    assert (rates.lr, rates.momentum) == (0.02, 0.9)
    assert rates.options == {"weight_decay": 1e-4}
    assert rates.left == {"clip_grad": {"max_norm": 35}}
    assert "left to you: clip_grad=" in str(rates)


class Config:
    """What is no mapping and hands out one's methods, as MMEngine's class does."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(CONFIG, name)

    def __getitem__(self, name: str) -> Any:
        return CONFIG[name]


def test_loaded_config() -> None:
    assert from_mmengine(Config(), epoch_length=10) == from_mmengine(CONFIG, epoch_length=10)


def test_one_scheduler_and_none() -> None:
    alone = from_mmengine({"type": "ExponentialLR", "gamma": 0.9, "by_epoch": False})
    assert alone.schedule.steps is None
    assert alone.schedule(2) == pytest.approx(0.81)
    assert from_mmengine([]).schedule == constant()
    assert from_mmengine([dict(COSINE)], epoch_length=2).schedule.steps is None


def test_floats_that_are_whole_positions() -> None:
    drops = {"type": "MultiStepLR", "begin": 0.0, "end": 8.0}
    wanted = from_mmengine([drops | {"milestones": [4, 6]}], epoch_length=2)
    assert from_mmengine([drops | {"milestones": [4.0, 6.0]}], epoch_length=2) == wanted
    converted = {"convert_to_iter_based": True, "milestones": [2.5], "begin": 0.25, "end": 4}
    by_steps = from_mmengine([drops | converted], epoch_length=2)
    assert [by_steps.schedule(t) for t in (4, 5)] == pytest.approx([1.0, 0.1])


def test_options_of_another_optimizer_are_left() -> None:
    adam = {"type": "AdamW", "lr": 1e-3, "betas": (0.8, 0.99), "weight_decay": 0.05}
    momenta = [{"type": "CosineAnnealingMomentum", "eta_min": 0.4, "by_epoch": False, "end": 8}]
    config = {"optim_wrapper": {"optimizer": adam}, "param_scheduler": momenta}
    rates = from_mmengine(config)
    assert rates.lr == 1e-3
    assert rates.momentum == 0.8
    assert rates.momentum_schedule is not None
    assert rates.momentum_schedule(8) < 0.6
    assert set(rates.left["optimizer"]) == {"type", "betas", "weight_decay"}


def test_other_names_of_a_scheduler() -> None:
    wanted = from_mmengine([WARMUP]).schedule
    for name in ("mmengine.LinearLR", type("LinearLR", (), {})):
        assert from_mmengine([WARMUP | {"type": name}]).schedule == wanted
    general = WARMUP | {"type": "LinearParamScheduler", "param_name": "lr"}
    assert from_mmengine([general]).schedule == wanted
    moved = from_mmengine([general | {"param_name": "momentum"}], momentum=0.9)
    assert moved.momentum_schedule == wanted
    assert moved.schedule == constant()


def test_only_what_overlaps_with_a_minimum_is_a_table() -> None:
    rates = from_mmengine(
        [WARMUP, COSINE | {"begin": 0, "eta_min": 0.001, "convert_to_iter_based": True}],
        epoch_length=10, lr=0.1, max_epochs=10,
    )  # fmt: skip
    lengths = [len(segment.values) for segment in rates.schedule.segments]
    assert lengths == [10, 0, 0]
    without = from_mmengine([WARMUP, COSINE | {"begin": 0}], epoch_length=5, max_epochs=10)
    assert [len(track.segments) for track in without.schedule.tracks] == [2, 2]
    assert not any(s.values for track in without.schedule.tracks for s in track.segments)


def test_no_scheduler_is_a_constant_rate(tmp_path: Path) -> None:
    config = CONFIG | {"param_scheduler": None}
    rates = from_mmengine(config, epoch_length=2)
    assert (rates.schedule, rates.lr) == (constant().lasting(20), 0.02)
    assert str(rates).startswith("MMEngine's constant rate")
    (tmp_path / "base.py").write_text("param_scheduler = [dict(type='StepLR', step_size=2)]")
    file = tmp_path / "config.py"
    file.write_text("_base_ = 'base.py'\nparam_scheduler = None")
    assert from_mmengine(file).schedule == constant()


def test_a_quadratic_warmup_takes_whole_steps_alone() -> None:
    warmup = {"type": "mmdet.QuadraticWarmupLR", "convert_to_iter_based": True, "end": 1.5}
    assert from_mmengine([warmup], epoch_length=2).schedule(range(4)) == pytest.approx(
        [1 / 9, 4 / 9, 1.0, 1.0]
    )
    with pytest.raises(TypeError, match=r"end must be an integer, got 4.5"):
        from_mmengine([warmup], epoch_length=3)
    with pytest.raises(ValueError, match="length of QuadraticWarmupLR is not known"):
        from_mmengine([{"type": "QuadraticWarmupLR"}], epoch_length=3)


FILE = """
_base_ = ["base.py"]
from mmengine.optim import LinearLR
max_epochs, unused = 20, open("/dev/null")
epochs = 2 * 5
base_lr = 0.02
custom_imports = dict(imports=[__import__("os")])
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-1, by_epoch=False, begin=0, end=20 // 2),
    dict(type='CosineAnnealingLR', eta_min=base_lr * 0.01, begin=1, end=epochs,
         T_max=epochs - 1, by_epoch=True),
]
optim_wrapper = dict(optimizer=dict(lr=base_lr), clip_grad=dict(max_norm=35))
"""
BASE = """
optim_wrapper = dict(type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.5, momentum=0.9, weight_decay=0.0001))
param_scheduler = dict(type='StepLR', step_size=1)
train_cfg = dict(max_epochs=10, by_epoch=True)
"""


def test_file_is_read_not_run(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(BASE)
    file = tmp_path / "config.py"
    file.write_text(FILE)
    found = from_mmengine(str(file), epoch_length=10)
    wanted = from_mmengine(CONFIG, epoch_length=10)
    assert found.schedule == wanted.schedule
    assert found.sgd_options() == wanted.sgd_options()


def test_file_replaces_what_it_deletes(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(BASE)
    file = tmp_path / "config.py"
    optimizer = "dict(_delete_=True, type='AdamW', lr=0.1)"
    file.write_text(f"_base_ = 'base.py'\noptim_wrapper = dict(optimizer={optimizer})\n")
    assert from_mmengine(file, epoch_length=10).left == {"optimizer": {"type": "AdamW"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("param_scheduler = build()", r"says param_scheduler by 'build\(\)' in line 1, only"),
        ("param_scheduler = [dict(**a)]", "says param_scheduler by"),
        ("param_scheduler = [dict(type='StepLR', step_size=size)]", "by 'size' in line 1"),
        ("a = 9 ** 9 ** 9\nparam_scheduler = [a]", "by 'a' in line 2"),
        ("param_scheduler = 1 / 0", "by '1 / 0' in line 1"),
        ("param_scheduler = [(", "is no Python"),
        ("_base_ = 'mmdet::x.py'", "of another package"),
        ("_base_ = 'config.py'", "more than 32 files"),
        ("a = 9999999999\nb = a * a\nparam_scheduler = [b]", "by 'b' in line 3"),
        ("param_scheduler = -open()", r"by 'open\(\)' in line 1"),
        ("with read_base():\n    from .base import *", r"has its bases by read_base\(\)"),
        ("_base_ = base()", r"says _base_ by 'base\(\)' in line 1"),
        ("x = 3", "param_scheduler must be a list of dicts, got None"),
        ("x = " + "-" * 300 + "1", "more than 200 levels"),
    ],
)
def test_files_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text(text + "\n")
    with pytest.raises(ValueError, match=message):
        from_mmengine(file)


SCHEDULERS = "param_scheduler = [dict(type='StepLR', step_size=2)]\n"


@pytest.mark.parametrize(
    "code",
    [
        "param_scheduler[0]['step_size'] = 3",
        "param_scheduler += [dict(type='ExponentialLR', gamma=0.9)]",
        "param_scheduler[0].update(gamma=0.5)",
        "same = param_scheduler[0]\nsame['gamma'] = 0.5",
        "same = param_scheduler\nsame += [1]",
        "inside = dict(its=param_scheduler)\nf(inside)",
        "x = param_scheduler.pop()",
        "if True:\n    param_scheduler = []",
        "for each in param_scheduler:\n    each['gamma'] = 0.5",
        "a = param_scheduler = []",
        "param_scheduler, a = [], 1",
        "del param_scheduler",
        "def f():\n    global param_scheduler",
        "exec('param_scheduler = []')",
        "class param_scheduler: pass",
    ],
)
def test_code_that_is_not_read_may_change_the_rates(code: str, tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(SCHEDULERS)
    file = tmp_path / "config.py"
    file.write_text(f"{SCHEDULERS}{code}\n")
    with pytest.raises(ValueError, match=r"says param_scheduler by .* in line [23], only"):
        from_mmengine(file, epoch_length=2)
    of_base = code.replace("param_scheduler", "_base_.param_scheduler")
    if code.startswith(("param_scheduler[", "same", "inside", "exec")):
        file.write_text(f"_base_ = 'base.py'\n{of_base}\n")
        with pytest.raises(ValueError, match="says param_scheduler by"):
            from_mmengine(file, epoch_length=2)


def test_number_that_code_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text("size = 1\nsize *= 2\n" + SCHEDULERS.replace("2", "size"))
    with pytest.raises(ValueError, match="says param_scheduler by 'size' in line 3"):
        from_mmengine(file)


def test_file_refers_to_items_and_to_what_is_below(tmp_path: Path) -> None:
    file = tmp_path / "config.py"
    file.write_text(
        "import copy\n"
        "_base_ = ['base.py']\n"
        "print(_base_.every)\n"
        "_base_.model.depth = 3\n"
        "sizes = dict({'a.b': [_base_.every * 3]})\n"
        "param_scheduler = [dict(type='StepLR', step_size=sizes['a.b'][0], "
        "end=_base_.train_cfg.max_epochs)]\n"
    )
    (tmp_path / "base.py").write_text("every = 2\nmodel = dict()\ntrain_cfg = dict(max_epochs=9)\n")
    wanted = from_mmengine(
        [{"type": "StepLR", "step_size": 6, "end": 9}], epoch_length=2, max_epochs=9
    )
    assert from_mmengine(file, epoch_length=2).schedule == wanted.schedule


def test_dicts_that_would_be_merged_for_ever(tmp_path: Path) -> None:
    twice = "".join(f"a{i} = dict(p=a{i - 1}, q=a{i - 1})\n" for i in range(1, 30))
    (tmp_path / "base.py").write_text(f"a0 = dict(x=1)\n{twice}")
    file = tmp_path / "config.py"
    file.write_text(f"_base_ = 'base.py'\na0 = dict(x=1)\n{twice}")
    with pytest.raises(ValueError, match="merge more than 100000 dicts"):
        from_mmengine(file)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"type": "ReduceOnPlateauLR"}, "type='ReduceOnPlateauLR' must be one of"),
        (
            {"type": "CosineAnnealingWeightDecay", "T_max": 3},
            "moves the weight decay, which no schedule here does: take it out",
        ),
        ({"type": "OneCycleMomentum"}, "type='OneCycleMomentum' must be one of"),
        ({"type": "mmpose.OwnLR"}, "type='mmpose.OwnLR' must be one of"),
        ({"type": "LinearLR", "factor": 0.1}, "LinearLR has no option factor"),
        ({"type": "LinearLR", "end": 9, "start_factor": 0}, "start_factor must be .* above 0"),
        ({"type": "ConstantLR", "end": 9, "factor": 2.0}, "factor must be .* at most 1"),
        ({"type": "LinearLR", "by_epoch": False}, "length of LinearLR is not known"),
        ({"type": "StepLR", "by_epoch": "False"}, "by_epoch must be true or false, got 'False'"),
        ({"type": "StepLR", "begin": 5, "end": 5, "step_size": 1}, "end=5 of StepLR must lie"),
        ({"type": "StepLR", "step_size": 1, "last_step": 3}, "last_step=3 starts StepLR"),
        ({"type": "StepLR", "begin": 0.5, "step_size": 1}, "begin must be an integer, got 0.5"),
        ({"type": "MultiStepLR", "milestones": [7.2]}, "milestones=7.2 of MultiStepLR lies betw"),
        ({"type": "StepLR"}, "StepLR needs step_size"),
        ({"type": "ExponentialLR"}, "ExponentialLR needs gamma"),
        ({"type": "CosineAnnealingLR", "end": 9, "eta_min": 0.1}, r"eta_min=0.1 is a value.*lr="),
        ({"type": "CosineAnnealingLR", "end": 9, "eta_min": 0.1, "eta_min_ratio": 0.1}, "exclude"),
        ({"type": "CosineRestartLR", "periods": [3]}, "needs eta_min or eta_min_ratio"),
        ({"type": "CosineRestartLR", "periods": [3, 4], "eta_min": 0}, "2 periods and 1 restart_"),
        ({"type": "OneCycleLR", "end": 9, "eta_max": [1, 2]}, "eta_max must be a real number"),
        ({"type": "StepLR", "step_size": 1, "by_epoch": False, "convert_to_iter_based": True},
         "convert_to_iter_based=True with by_epoch=False"),
    ],
)  # fmt: skip
def test_refuses(scheduler: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        from_mmengine([scheduler], epoch_length=10)


def test_lengths_that_are_missing() -> None:
    with pytest.raises(ValueError, match=r"StepLR counts epochs.*pass epoch_length="):
        from_mmengine([{"type": "StepLR", "step_size": 1}])
    with pytest.raises(ValueError, match=r"max_iters=90 says that the loop has none"):
        from_mmengine([{"type": "StepLR", "step_size": 1}], epoch_length=9, max_iters=90)
    poly = {"type": "PolyLR", "by_epoch": False}
    assert from_mmengine([poly], max_iters=90).schedule.steps == 90
    config = {"param_scheduler": [poly], "train_cfg": {"type": "IterBased", "max_iters": 90}}
    assert from_mmengine(config).schedule == from_mmengine([poly], max_iters=90).schedule


def test_two_cycles_are_refused() -> None:
    cycle = {"type": "OneCycleLR", "eta_max": 0.5, "by_epoch": False}
    with pytest.raises(ValueError, match="two of OneCycleLR"):
        from_mmengine([cycle | {"end": 5}, cycle | {"begin": 5}], lr=0.1, max_iters=9)


BELOW_ZERO = {
    # Past the end of the training the cosine would go on below 0: it has been moved below its low.
    "after the end": (
        [
            {"type": "CosineAnnealingLR", "T_max": 6, "eta_min": 0.01, "begin": 0, "end": 16},
            {"type": "MultiStepLR", "milestones": [14], "gamma": 0.01},
        ],
        16,
        {6: 0.01, 11: 0.18727241335952188, 14: 0.001525, 15: 0.00435},
    ),
    # The restart is at 0 after three steps' rounding, where a slice begins that is a table.
    "by a rounding": (
        [
            {"type": "MultiStepLR", "milestones": [4], "begin": 0, "end": 9},
            {"type": "CosineAnnealingLR", "T_max": 2, "eta_min_ratio": 0.1, "begin": 0, "end": 8},
            {"type": "CosineRestartLR", "periods": [3, 5], "restart_weights": [0.5, 0.5]}
            | {"eta_min": 0, "begin": 0, "end": 9},
        ],
        9,
        {2: 0.0066666666666666706, 3: 0.1, 4: 0.0, 5: 0.007236067977499788},
    ),
}


@pytest.mark.parametrize("case", BELOW_ZERO)
def test_what_is_below_zero_only_by_rounding_or_after_the_training(case: str) -> None:
    """The rates are MMEngine 0.10.7's."""
    schedulers, steps, wanted = BELOW_ZERO[case]
    by_steps = [{**each, "by_epoch": False} for each in schedulers]
    rates = from_mmengine(by_steps, lr=0.2, max_iters=steps)
    assert {t: rates.lr_at(t) for t in wanted} == pytest.approx(wanted, rel=1e-11, abs=1e-17)
    assert rates.lr_at(100) == rates.lr_at(steps - 1)


def test_accumulation_is_refused() -> None:
    config = {"param_scheduler": [], "optim_wrapper": {"accumulative_counts": 4}}
    with pytest.raises(ValueError, match="accumulative_counts makes an update of several"):
        from_mmengine(config)


@pytest.mark.parametrize(
    "config", [[SimpleNamespace()], {"param_scheduler": {"generator": []}}, [{}], {"model": 1}]
)
def test_no_list_of_dicts(config: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="param_scheduler must"):
        from_mmengine(config)


def test_a_momentum_of_zero_has_no_factors() -> None:
    sgd = {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.0}}
    assert from_mmengine({"param_scheduler": [], "optim_wrapper": sgd}).momentum == 0.0
    momenta = [{"type": "CosineAnnealingMomentum", "eta_min": 0.4, "by_epoch": False, "end": 8}]
    with pytest.raises(ValueError, match=r"eta_min=0.4 is a value.*pass momentum="):
        from_mmengine({"param_scheduler": momenta, "optim_wrapper": sgd})
