"""The command line: info, plot, doctor."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch

import fused_warmup
from fused_warmup._cli import doctor, main
from fused_warmup._cli.expression import BUILDERS, METHODS, parse_schedule
from fused_warmup._cli.plot import draw
from fused_warmup.conversions import get_schedule
from fused_warmup.schedules import Schedule, cosine, linear_warmup, multi_step, table

RECIPE = {
    "initial_lr": {"default": 0.1, "0.": 0.01},
    "max_epochs": 4,
    "lr_mode": "CosineLRScheduler",
}


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("linear_warmup(100).then(cosine(900))", linear_warmup(100).then(cosine(900))),
        ("multi_step([3, 6], gamma=.5).lasting(9)", multi_step([3, 6], gamma=0.5).lasting(9)),
        ("cosine(epochs=2.5, steps_per_epoch=4, end=1e-2)", cosine(10, end=0.01)),
        ("linear_warmup(3).then(cosine(9), clock='global')",
         linear_warmup(3).then(cosine(9), clock="global")),
        ("table((1, 0.5)).scaled(2).stretched(3)", table((1, 0.5)).scaled(2).stretched(3)),
        ("get_schedule('cosine', 3, 9)", get_schedule("cosine", 3, 9)),
    ],
)  # fmt: skip
def test_expressions(text: str, schedule: Schedule) -> None:
    assert parse_schedule(text) == schedule


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "cosine.__globals__",
        "cosine(9).__class__(1)",
        "cosine(9).to_dict()",
        "cosine(*[9])",
        "cosine(**{'steps': 9})",
        "[cosine(9) for _ in range(9)]",
        "(lambda: 0)()",
        "from_callable(print, 3)",
        "open('x')",
        "cosine(9",
        "3",
        "cosine",
    ],
)
def test_nothing_else_is_run(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_schedule(text)


def test_every_builder_may_be_named() -> None:
    assert {"cosine", "linear_warmup", "one_cycle", "join_schedules"} <= set(BUILDERS)
    assert all(callable(builder) for builder in BUILDERS.values())


def test_the_help_of_plot_lists_what_may_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plot", "--help"])
    words = set(re.findall(r"\.?\w+", capsys.readouterr().out))
    assert {*BUILDERS, *(f".{name}" for name in METHODS)} <= words


def test_plots_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plot", "linear_warmup(10).then(cosine(90))", "--lr", "0.4"])
    printed = capsys.readouterr().out
    assert "101 steps, first 0, last 0" in printed
    assert "0.4 |" in printed
    assert "█" in printed


def test_plots_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "schedule.png"
    main(["plot", "step(2, 0.5)", "--steps", "9", "--steps-per-epoch", "2", "--png", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "9 steps, first 1, last 0.25" in capsys.readouterr().out


def test_plots_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"training_hyperparams": RECIPE}))
    main(["plot", str(path), "--steps-per-epoch", "5"])
    printed = capsys.readouterr().out
    assert "default, 20 steps, first 0.1" in printed
    assert "0., 20 steps, first 0.01" in printed
    assert "\noptimizer: fused_warmup.SGD(weight_decay=0.0001, momentum=0.9)" in printed


def test_a_recipe_has_its_own_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPE))
    with pytest.raises(SystemExit):
        main(["plot", str(path), "--steps-per-epoch", "5", "--lr", "0.4"])
    assert "has its own rates, got --lr=0.4: leave it out" in capsys.readouterr().err


def test_a_long_schedule_is_drawn_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plot", f"cosine({10**15})"])
    printed = capsys.readouterr().out
    assert f"{10**15 + 1} steps, first 1, last 0" in printed
    assert printed.splitlines()[-1].endswith(f" {10**15}")


def test_a_drawing_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    main(["plot", "cosine(900)"])
    drawing = capsys.readouterr().out.splitlines()[1:]
    assert max(map(len, drawing)) == 40


def test_a_terminal_without_blocks_gets_a_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", plain)
    main(["plot", "cosine(9)"])
    plain.flush()
    assert b"1 |##" in plain.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_picture_without_matplotlib_is_an_error_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as exit_info:
        main(["plot", "cosine(9)", "--png", str(tmp_path / "schedule.png")])
    printed = capsys.readouterr()
    assert (exit_info.value.code, printed.out) == (2, "")
    assert "needs matplotlib: pip install matplotlib, or leave --png out" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["recipe.json"],
        ["missing.json", "--steps-per-epoch", "5"],
        ["cosine(0)"],
        ["cosine(1, 2, 3)"],
        ["cosine(9)", "--steps", "0"],
        ["cosine(9)", "--lr", "-1"],
        ["cosine(9)", "--lr", "nan"],
        ["cosine(9)", "--steps-per-epoch", "0"],
    ],
)
def test_what_cannot_be_plotted_is_said_in_a_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["plot", *arguments])
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith("fused-warmup: ")


def test_drawing_is_to_scale() -> None:
    assert [line.count("█") for line in draw([0, 1, 2, 3, 4], 5, 4).splitlines()[:4]] == [
        1,
        2,
        3,
        4,
    ]
    assert "1 |" in draw([1.0])


def test_doctor_trusts_what_agrees(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "STEPS", 5)
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert list(dict.fromkeys(names)) == ["cuda", "triton", "cpu", "reference"]
    # A line for each type of device that it serves: the reference has two beside a GPU.
    for name, line in zip(names, lines, strict=True):
        assert name in ("cuda", "triton") or " trust " in line


def test_doctor_distrusts_what_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "STEPS", 5)
    train = doctor._train

    def broken(backend: str, *rest: object) -> list[torch.Tensor]:
        found = train(backend, *rest)  # type: ignore[arg-type]
        if backend == "cpu":
            found[0] = found[0] * torch.nan
        return found

    monkeypatch.setattr(doctor, "_train", broken)
    with pytest.raises(SystemExit) as exit_info:
        main(["doctor"])
    assert exit_info.value.code == 1
    assert "cpu        cpu   DO NOT TRUST" in capsys.readouterr().out


@pytest.mark.parametrize(("backend", "trusted"), [("cpu", False), ("reference", None)])
def test_doctor_minds_a_missing_compiler_where_it_would_be_used(
    backend: str, trusted: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_compiler(*_: object) -> list[torch.Tensor]:
        raise RuntimeError("Failed to find C compiler. Please specify via CC")

    monkeypatch.setattr(doctor, "_train", without_compiler)
    verdict = doctor._check(backend, "cpu", [[] for _ in doctor._cases()])
    assert verdict.trusted is trusted
    assert "float32, none" in verdict.text
    assert "Failed to find C compiler" in verdict.text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])
    assert exit_info.value.code == 0
    assert capsys.readouterr().out == f"fused-warmup {fused_warmup.__version__}\n"


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    main(["info"])
    assert "reference    yes" in capsys.readouterr().out


def test_an_unknown_builder_is_told_what_was_meant_and_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"cosin is no builder, did you mean cosine\?") as caught:
        parse_schedule("linear_warmup(5).then(cosin(9))")
    missing = [name for name in BUILDERS if name not in str(caught.value)]
    assert not missing
