"""Configs of MMEngine, Detectron2 and DeepSpeed: the rates that these frameworks' own code gave."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fused_warmup
from fused_warmup import from_deepspeed, from_detectron2, from_mmengine

GOLDEN = Path(__file__).parents[1] / "support" / "golden" / "configs.json"
RECORDED = json.loads(GOLDEN.read_text())
SOLVER = {"BASE_LR": 0.02, "MAX_ITER": 60, "STEPS": (30, 50)}
# Both sides round a float64 a few times; recursions of MMEngine's round at each step.
TOLERANCE = 1e-12


def same(found: list[float], wanted: list[float], unit: float) -> None:
    assert found == pytest.approx(wanted, rel=TOLERANCE, abs=TOLERANCE * unit)


@pytest.mark.parametrize("case", RECORDED["detectron2"], ids=lambda case: str(case["solver"]))
def test_detectron2(case: dict[str, Any]) -> None:
    rates = from_detectron2(case["solver"])
    same([rates.lr_at(t) for t in range(len(case["lr"]))], case["lr"], 0.02)
    assert rates.schedule.steps == 60


def test_detectron2_drops_early_where_its_epsilon_is_a_step() -> None:
    case = RECORDED["detectron2_long"]
    rates = from_detectron2(case["solver"])
    same([rates.lr_at(t) for t in case["steps"]], case["lr"], 0.02)
    assert rates.lr_at(1_999_996) == pytest.approx(0.02)
    assert rates.lr_at(1_999_997) == pytest.approx(0.002)


@pytest.mark.parametrize(
    "given",
    [
        {"SOLVER": SOLVER, "MODEL": {"WEIGHTS": "R50"}},
        SOLVER,
        SimpleNamespace(SOLVER=SOLVER),
        {"SOLVER": {"BASE_LR": "2e-2", "MAX_ITER": "60", "STEPS": "(30, 50)"}},
    ],
    ids=["cfg", "cfg.SOLVER", "an object", "text as YAML leaves it"],
)
def test_detectron2_in_each_form(given: Any) -> None:
    assert from_detectron2(given).schedule == from_detectron2(SOLVER).schedule


def test_detectron2_reads_a_file_over_its_bases(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "base.yaml").write_text("SOLVER:\n  BASE_LR: 0.02\n  MAX_ITER: 90\n  GAMMA: 0.1\n")
    folder = tmp_path / "faster"
    folder.mkdir()
    file = folder / "r50.yaml"
    file.write_text('_BASE_: "../base.yaml"\nSOLVER:\n  STEPS: (30, 50)\n  MAX_ITER: 60\n')
    assert from_detectron2(file).schedule == from_detectron2(str(file)).schedule
    assert from_detectron2(file) == from_detectron2({**SOLVER, "GAMMA": 0.1})
    file.write_text("_BASE_: r50.yaml\nSOLVER: {}\n")
    with pytest.raises(ValueError, match="take out the circle"):
        from_detectron2(file)


def test_detectron2_stretches_stairs_into_one_step_behind_a_long_warmup() -> None:
    solver = {"LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR", "RESCALE_INTERVAL": True}
    length = {"MAX_ITER": 1_000_003, "WARMUP_ITERS": 1_000_002, "WARMUP_FACTOR": 0.5}
    assert from_detectron2(solver | length).schedule(1_000_002) == 1.0


def test_detectron2_makes_no_objects_of_python(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = tmp_path / "retinanet.yaml"
    sizes = 'MODEL:\n  SIZES: !!python/object/apply:eval ["[2 ** x for x in (1, 2)]"]\n'
    steps = "SOLVER:\n  BASE_LR: 0.02\n  MAX_ITER: 60\n  STEPS: !!python/tuple [30, 50]\n"
    file.write_text(sizes + steps)
    assert from_detectron2(file).schedule == from_detectron2(SOLVER).schedule
    file.write_text(f"{steps}  GAMMA: !!python/object/apply:os.system [true]\n")
    with pytest.raises(TypeError, match=r"GAMMA must be a real number, got '!!python/object/app"):
        from_detectron2(file)


def test_detectron2_takes_text_that_is_no_literal_for_text() -> None:
    with pytest.raises(ValueError, match=r"WARMUP_METHOD must be one of .*, got '\(\(\("):
        from_detectron2({**SOLVER, "WARMUP_METHOD": "(" * 10_000})


def test_detectron2_names_what_it_leaves() -> None:
    rates = from_detectron2({**SOLVER, "WEIGHT_DECAY_NORM": 0.0, "NESTEROV": True})
    assert rates.left == {"WEIGHT_DECAY_NORM": 0.0}
    assert "left to you: WEIGHT_DECAY_NORM=0.0" in str(rates)
    parameter = torch.nn.Parameter(torch.ones(3))
    group = fused_warmup.SGD([parameter], **rates.sgd_options()).param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.02, 0.9, True)
    assert group["weight_decay"] == 0.0001


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ({"LR_SCHEDULER_NAME": "WarmupPolyLR"}, "LR_SCHEDULER_NAME must be one of .*WarmupPolyLR"),
        ({"WARMUP_METHOD": "burnin"}, "WARMUP_METHOD must be one of .*burnin"),
        ({"WARMUP_ITER": 9}, "did you mean 'WARMUP_ITERS'"),
        ({"STEPS": (50, 30)}, "STEPS must increase"),
        ({"STEPS": (60,)}, "lie below MAX_ITER=60"),
        ({"BASE_LR": 0.0}, "BASE_LR must be a finite number above 0"),
        ({"MAX_ITER": 0}, "MAX_ITER must lie in"),
        ({"WARMUP_FACTOR": -1.0}, "WARMUP_FACTOR must be"),
        ({"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 1.0}, "BASE_LR_END=1.0 must be"),
        ({"LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR", "GAMMA": 0}, "GAMMA must be above 0"),
    ],
)
def test_detectron2_refuses(solver: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_detectron2({**SOLVER, **solver})


def test_detectron2_needs_a_solver() -> None:
    with pytest.raises(ValueError, match="SOLVER must be among them"):
        from_detectron2({"MODEL": {}})
    with pytest.raises(TypeError, match="must be a mapping or the path"):
        from_detectron2(3)


@pytest.mark.parametrize(
    "case", RECORDED["deepspeed"], ids=lambda case: f"{case['type']} {case['params']}"
)
def test_deepspeed(case: dict[str, Any]) -> None:
    block = {"type": case["type"], "params": case["params"]}
    optimizer = {"type": "SGD", "params": {"lr": 0.2, "momentum": 0.9, "weight_decay": 1e-4}}
    rates = from_deepspeed({"scheduler": block, "optimizer": optimizer})
    same([rates.lr_at(t) for t in range(40)], case["lr"], 0.2)
    assert rates.options == {"momentum": 0.9, "weight_decay": 1e-4}
    assert from_deepspeed(block, lr=rates.lr).schedule == rates.schedule
    assert rates.left == {}


class WarmupLR(SimpleNamespace):
    """The fields of DeepSpeed's object."""

    def get_lr(self) -> None:
        raise AssertionError("it is left as it is")


def test_deepspeed_of_live_objects() -> None:
    own = {"warmup_num_steps": 4, "warmup_type": "linear", "inverse_log_warm_up": 1.0}
    live = WarmupLR(min_lrs=[0.0, 0.0], max_lrs=[0.1, 0.1], last_batch_iteration=7, **own)
    block = {"type": "WarmupLR", "params": {"warmup_num_steps": 4, "warmup_type": "linear"}}
    assert from_deepspeed(live).schedule == from_deepspeed(block, lr=0.1).schedule
    assert from_deepspeed(live).lr == 0.1
    live.max_lrs = [0.1, 0.2]
    with pytest.raises(ValueError, match=r"differs between the groups.*pass group="):
        from_deepspeed(live)
    assert from_deepspeed(live, group=1).lr == 0.2
    cosine = type("WarmupCosineLR", (WarmupLR,), {})(
        org_lrs=[0.3], total_num_steps=9, warmup_min_ratio=0.0, cos_min_ratio=0.1, **own
    )
    assert from_deepspeed(cosine).lr == 0.3


def test_deepspeed_reads_its_file_and_names_what_it_leaves(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    config = {
        "train_batch_size": 8,
        "gradient_clipping": 1.0,
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-4, "betas": [0.9, 0.95]}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 10}},
    }
    file.write_text(json.dumps(config))
    rates = from_deepspeed(file)
    assert rates.lr == 3e-4
    assert set(rates.left) == {"train_batch_size", "gradient_clipping", "optimizer"}
    assert "gradient_clipping=1.0" in str(rates)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("OneCycle", {}, "type must be one of .*'OneCycle'"),
        ("WarmupLR", {"warmup_num_steps": "auto"}, "warmup_num_steps='auto' is filled in"),
        ("WarmupLR", {"warmup_num_step": 9}, "did you mean 'warmup_num_steps'"),
        (
            "WarmupLR",
            {"warmup_type": "cosine", "warmup_max_lr": 0.1},
            "warmup_type must be 'log' or 'linear'",
        ),
        ("WarmupLR", {}, "WarmupLR names no base rate"),
        ("WarmupLR", {"warmup_max_lr": 0.0}, "lr must be a finite number above 0"),
        ("WarmupDecayLR", {}, "total_num_steps is missing"),
        ("WarmupCosineLR", {"total_num_steps": 9}, "WarmupCosineLR names no base rate"),
        ("WarmupDecayLR", {"total_num_steps": 9, "last_batch_iteration": 3}, "must be -1"),
    ],
)
def test_deepspeed_refuses(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_deepspeed({"scheduler": {"type": name, "params": params}})


def test_deepspeed_has_each_key_once(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text('{"scheduler": {"type": "WarmupLR"}, "scheduler": {"type": "WarmupDecayLR"}}')
    with pytest.raises(ValueError, match="the key 'scheduler' stands twice"):
        from_deepspeed(file)


def test_deepspeed_needs_a_scheduler() -> None:
    with pytest.raises(ValueError, match="no scheduler with a type"):
        from_deepspeed({"train_batch_size": 8})


@pytest.mark.parametrize(
    "case", RECORDED["mmengine"], ids=lambda case: "+".join(c["type"] for c in case["schedulers"])
)
def test_mmengine(case: dict[str, Any]) -> None:
    length = {"epoch_length": 5, "max_epochs": 10}
    rates = from_mmengine(case["schedulers"], lr=0.2, momentum=0.9, **length)
    same([rates.lr_at(t) for t in range(50)], case["lr"], 0.2)
    assert rates.schedule.steps == 50
    if rates.momentum_schedule is None:
        assert set(case["momentum"]) == {0.9}
    else:
        same([0.9 * rates.momentum_schedule(t) for t in range(50)], case["momentum"], 0.9)
    tables = [s for track in rates.schedule.tracks for s in track.segments if s.values]
    assert sum(len(segment.values) for segment in tables) <= 7  # under the warm-up alone


@pytest.mark.parametrize(
    ("convert", "config", "name"),
    [
        (from_deepspeed, {"scheduler": 3}, "scheduler"),
        (from_deepspeed, {"scheduler": {"type": "WarmupLR", "params": [1]}}, "params"),
        (from_deepspeed, {"scheduler": {"type": "WarmupLR"}, "optimizer": "SGD"}, "optimizer"),
        (from_mmengine, {"param_scheduler": [], "optim_wrapper": [3]}, "optim_wrapper"),
        (from_mmengine, {"param_scheduler": [], "train_cfg": 12}, "train_cfg"),
    ],
)
def test_blocks_that_are_none(convert: Any, config: dict[str, Any], name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a mapping, got .*: pass what stands in"):
        convert(config)


def test_a_summary_names_some_of_many_options() -> None:
    many = {f"OPTION_{i}": i for i in range(40)}
    rates = from_detectron2({**SOLVER, **many})
    assert rates.left == many
    assert str(rates).endswith("OPTION_11=11, and 28 more in .left")


def test_without_a_base_rate() -> None:
    rates = from_mmengine([{"type": "ExponentialLR", "gamma": 0.9, "by_epoch": False}])
    assert rates.lr is None
    for use in (rates.sgd_options, lambda: rates.lr_at(0)):
        with pytest.raises(ValueError, match="names no base learning rate: pass lr="):
            use()
