"""The command line given what would take for ever: one line with the limit, at once, status 2."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE

from fused_warmup._cli import main
from fused_warmup._cli.expression import parse_schedule
from fused_warmup.conversions import get_schedule

HUGE = 10**400


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(["plot", *arguments])
    printed = capsys.readouterr()
    assert (exit_info.value.code, printed.out) == (2, "")
    lines = printed.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("fused-warmup: ")
    assert len(lines[0]) < 700
    assert printed.err[:-1].isprintable()
    return lines[0]


EXPRESSIONS = {
    "nested then": "constant(steps=1)" + ".then(constant(steps=1))" * 10_000,
    "less nested": "constant(steps=1)" + ".then(constant(steps=1))" * 350,
    "nested arguments": "constant(steps=1).then(" * 350 + "constant()" + ")" * 350,
    "lists": "table(" + "[" * 4000 + "]" * 4000 + ")",
    "signs": "constant(" + "-" * 9000 + "1)",
    "attributes": "a" + ".b" * 4900,
    "sum": "constant(" + "+".join(["1j"] * 3000) + ")",
    "text": "constant(" + "1" * 100_000 + ")",
    "digits": "constant(" + "1" * 5000 + ")",
    "hexadecimal": "cosine(0x" + "f" * 9000 + ")",
    "string": "get_schedule('" + "x" * 9000 + "')",
    "newlines": "constant(1)\n\n\n+ 2",
    "escapes": "get_schedule('\x1b[2J\x07')",
    "null": "constant(1)\0",
    "dict": "constant({[1]: 2})",
    "infinite": "constant(1e999)",
    "twice": "cosine(9, end=0.1, end=0.2)",
    "many tables": f"join_schedules([{'cyclic(100000), ' * 50}], [{'5, ' * 49}])",
    "scaled on": "cyclic(100000)" + ".scaled(2)" * 50,
    "num_cycles": "get_schedule('cosine_with_restarts', 0, 10000000, num_cycles=1000000)",
    "infinite cycles": "get_schedule('cosine_with_restarts', 0, 10000000, num_cycles=1e999)",
    "training steps": f"get_schedule('cosine', 0, {HUGE})",
    "warm-up steps": f"get_schedule('linear', {HUGE}, 9)",
    "epochs": f"cosine(epochs=1e300, steps_per_epoch={2**62})",
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, EXPRESSIONS[name])


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("nested then", "at most 10000 are read"),
        ("less nested", "more than 300 levels"),
        ("many tables", "more than 1000000 values"),
        ("num_cycles", "at most 4096 restarts"),
    ],
)
def test_the_limit_is_named(name: str, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert limit in refused(capsys, EXPRESSIONS[name])


def test_what_is_within_the_limits_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_schedule("constant(steps=1)" + ".then(constant(steps=1))" * 100).steps == 101
    assert len(get_schedule("cosine_with_restarts", 0, 8192, num_cycles=4096).segments) == 4097
    main(["plot", "cyclic(100000)"])
    assert "1000 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["constant(2)", "--lr", "1e308"],
        ["constant(1)", "--steps", str(2**64)],
        ["constant(1)", "--steps-per-epoch", str(2**64)],
        ["cosine(9)", "--png", "/nowhere/at/all.png"],
        ["/dev/zero"],
        ["."],
        ["x" * 5000 + ".yaml", "--steps-per-epoch", "5"],
        ["\udcff.yaml", "--steps-per-epoch", "5"],
    ],
)
def test_other_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if "--png" in arguments:
        pytest.importorskip("matplotlib")
    refused(capsys, *arguments)


RECIPE: dict[str, Any] = {"initial_lr": 0.1, "max_epochs": 4, "lr_mode": "CosineLRScheduler"}


def test_many_groups_are_not_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.json"
    groups = {"default": 0.1, **{f"{i}.": 0.1 for i in range(3000)}}
    path.write_text(json.dumps(RECIPE | {"initial_lr": groups}))
    said = refused(capsys, str(path), "--steps-per-epoch", "5")
    assert "has 3001 groups, at most 32 are drawn" in said


def test_names_from_a_file_are_text_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    path, picture = tmp_path / "recipe.json", tmp_path / "x.png"
    groups = {"default": 0.1, "\x1b[2J$\\frac": 0.1, "\ud800": 0.1}
    path.write_text(json.dumps(RECIPE | {"initial_lr": groups}))
    main(["plot", str(path), "--steps-per-epoch", "5", "--png", str(picture)])
    printed = capsys.readouterr().out
    assert "\\x1b[2J$\\frac, 20 steps" in printed
    assert "\x1b" not in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """In a process of its own, with a limit of memory, as a shell has it."""
    pipe, zero = tmp_path / "pipe.yaml", tmp_path / "zero.yaml"
    os.mkfifo(pipe)
    zero.symlink_to("/dev/zero")
    for path in (pipe, zero):
        command = [sys.executable, "-m", "fused_warmup", "plot", str(path), "--steps-per-epoch=5"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 2
        assert "is no file: give a recipe in YAML or JSON" in done.stderr
        assert len(done.stderr.splitlines()) == 1
