"""The command line: convert prints the Python that builds a config's schedule."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from fused_warmup import (
    from_deepspeed,
    from_detectron2,
    from_mmengine,
    from_super_gradients,
    from_torchvision,
    from_ultralytics,
)
from fused_warmup._cli import main

SOLVER = "SOLVER:\n  BASE_LR: 0.02\n  STEPS: (600, 800)\n  MAX_ITER: 900\n  WARMUP_ITERS: 100\n"
MMENGINE = """
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=1, eta_min=0.001),
    dict(type="LinearMomentum", start_factor=0.9, by_epoch=False, end=50),
]
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.02, momentum=0.9), clip_grad=dict(max_norm=9))
train_cfg = dict(max_epochs=12)
"""
DEEPSPEED = {
    "scheduler": {
        "type": "WarmupDecayLR",
        "params": {"warmup_max_lr": 0.1, "total_num_steps": 900, "warmup_type": "linear"},
    }
}
ULTRALYTICS = "optimizer: SGD\nlr0: 0.02\nbatch: 24\nepochs: 30\n"
SUPER_GRADIENTS = "initial_lr: 0.1\nmax_epochs: 9\nlr_mode: CosineLRScheduler\n"
Files = dict[str, str]
FILES: Files = {
    "r50.yaml": SOLVER,
    "mm.py": MMENGINE,
    "ds.json": json.dumps(DEEPSPEED),
    "args.yaml": ULTRALYTICS,
    "recipe.yaml": SUPER_GRADIENTS,
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["convert", *arguments])
    return capsys.readouterr().out


def built(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(text, names)
    return names


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "convert", "options"),
    [
        (["r50.yaml"], from_detectron2, {}),
        (["mm.py", "--steps-per-epoch", "60"], from_mmengine, {"epoch_length": 60}),
        (["ds.json"], from_deepspeed, {}),
        (["args.yaml", "--steps-per-epoch", "10"], from_ultralytics, {"batches_per_epoch": 10}),
        (["recipe.yaml", "--steps-per-epoch", "9"], from_super_gradients, {"steps_per_epoch": 9}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_python_that_it_prints_builds_the_schedule(
    arguments: list[str], convert: Any, options: dict[str, Any], capsys: Any
) -> None:
    text = printed(capsys, *arguments)
    names, wanted = built(text), convert(arguments[0], **options)
    assert names["schedule"] == wanted.schedule
    assert names["lr"] == wanted.lr
    for name in ("momentum", "momentum_schedule", "bias_schedule", "weight_decay"):
        assert names.get(name) == getattr(wanted, name, None)
    comments = " ".join(line.removeprefix("# ") for line in text.splitlines() if line[:1] == "#")
    assert comments.split() == str(wanted).split()


@pytest.mark.usefixtures("files")
def test_what_is_short_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, text = printed(capsys, "r50.yaml").partition("from fused_warmup")
    assert text == (
        ".schedules import linear_warmup, multi_step\n\nlr = 0.02\nschedule = (\n"
        "    linear_warmup(100, start=0.001)\n"
        '    .then(multi_step([600, 800], gamma=0.1).lasting(900), clock="global")\n'
        ")\nmomentum = 0.9\n"
    )
    assert "import fused_warmup\n" not in text


def test_a_product_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--epochs 20 --lr-steps 8 11"
    options = ["--steps-per-epoch", "50", "--script", "detection"]
    text = printed(capsys, "--from", "torchvision", line, *options)
    assert "linear_warmup(49, start=0.001) * multi_step([400, 550], gamma=0.1)" in text
    wanted = from_torchvision(line, 50, script="detection")
    assert built(text)["schedule"] == wanted.schedule


@pytest.mark.usefixtures("files")
def test_what_is_long_is_built_by_the_converter(capsys: pytest.CaptureFixture[str]) -> None:
    config = {"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 0.1}}}
    Path("ds.json").write_text(json.dumps(config))
    text = printed(capsys, "ds.json")
    assert "converted = fused_warmup.from_deepspeed('ds.json')\n" in text
    assert built(text)["schedule"] == from_deepspeed(config).schedule


@pytest.mark.usefixtures("files")
def test_groups_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    groups = (
        "initial_lr: {default: 0.1, bäckbone: 0.01}\nmax_epochs: 9\nlr_mode: CosineLRScheduler\n"
    )
    Path("recipe.yaml").write_text(groups)
    names = built(printed(capsys, "recipe.yaml", "--steps-per-epoch", "9"))
    assert names["initial_lr"] == {"default": 0.1, "bäckbone": 0.01}
    assert names["schedules"] == from_super_gradients("recipe.yaml", 9).schedules


@pytest.mark.usefixtures("files")
def test_the_optimizer_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    """In lines of its own: what is left to the loop is no list otherwise."""
    params = {"initial_lr": 0.1, "max_epochs": 9, "optimizer": "AdamW", "clip_grad_norm": 1}
    Path("recipe.json").write_text(json.dumps(params))
    text = printed(capsys, "recipe.json", "--from", "super_gradients", "--steps-per-epoch", "9")
    assert "\n# left to you:\n# - clip_grad_norm: torch.nn.utils.clip_grad_norm_(" in text
    optimizer = built(text)["build_optimizer"](torch.nn.Linear(1, 1))
    assert type(optimizer) is torch.optim.AdamW


def test_torchvision_is_told_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    line = "--lr 0.5 --epochs 9 --lr-step-size 3"
    text = printed(capsys, "--from", "torchvision", line, "--steps-per-epoch", "7")
    assert built(text)["schedule"] == from_torchvision(line, 7).schedule
    more = printed(
        capsys, "--from=torchvision", "--epochs 40", "--steps-per-epoch=7", "--script=segmentation"
    )
    wanted = from_torchvision("--epochs 40", 7, script="segmentation")
    assert built(more)["schedule"] == wanted.schedule


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mm.py"], "CosineAnnealingLR counts epochs.*pass --steps-per-epoch"),
        (["args.yaml"], "Ultralytics counts epochs: pass --steps-per-epoch"),
        (["r50.yaml", "--lr", "0.1"], "Detectron2 has no use for --lr=0.1: leave it out"),
        (["other.yaml"], "no framework that is known: say whose it is with --from, one of super"),
        (["both.yaml"], "keys of Detectron2 and DeepSpeed: say whose it is"),
        (["missing.yaml"], "missing.yaml"),
        (["--from", "deepspeed", "r50.yaml"], "no scheduler with a type"),
    ],
)
def test_refuses(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.yaml").write_text("model: resnet\n")
    Path("both.yaml").write_text("SOLVER: {}\nscheduler: {}\n")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *arguments])
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.usefixtures("files")
def test_names_in_a_config_stay_in_its_comment(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x\nraise SystemExit #\x1b[2J"
    config = {**DEEPSPEED, name: 1}
    Path("ds.json").write_text(json.dumps(config))
    text = printed(capsys, "ds.json")
    assert "\x1b" not in text
    assert built(text)["lr"] == 0.1


def test_help_says_that_nothing_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    assert "read, never run" in " ".join(capsys.readouterr().out.split())
