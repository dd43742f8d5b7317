"""Recipes from anybody: what would take for ever, or read elsewhere, is refused at once."""

from pathlib import Path
from typing import Any

import pytest

from fused_warmup import Schedule
from fused_warmup._cli import main
from fused_warmup.conversions.super_gradients import from_super_gradients

pytest.importorskip("yaml")
STEP: dict[str, Any] = {"initial_lr": 0.1, "max_epochs": 10, "lr_mode": "StepLRScheduler"}


def bomb(levels: int, width: int = 9) -> str:
    lines = ["a0: &a0 [x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"initial_lr: *a{levels - 1}", "max_epochs: 3"])


def merges(levels: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, levels)]
    return "\n".join([*lines, "initial_lr: 0.1", "max_epochs: 3"])


FILES: dict[str, tuple[str, str]] = {
    "anchors": (bomb(10), "more than 65536 characters once its aliases"),
    "a long text many times": (
        f"a: &a {'x' * 9000}\nb: [{'*a, ' * 100}]\ninitial_lr: *a",
        "more than 65536 characters once its aliases",
    ),
    "merges": (merges(10), "more than 65536 characters once its aliases"),
    "in itself": ("initial_lr: &a [*a]\nmax_epochs: 3", "once its aliases"),
    "large": ("#\n" * 40_000, "at most 65536 bytes"),
    "deep": ("initial_lr: " + "[" * 60_000, "is no YAML"),
    "rather deep": ("initial_lr: " + "[" * 40 + "]" * 40, "more than 32 levels"),
    "digits": ("initial_lr: " + "1" * 60_000, "is no YAML"),
    "digits of a float": (
        "max_epochs: 3\ninitial_lr: " + "1" * 60_000 + "x",
        "must be a real number",
    ),
    "an empty int": ('initial_lr: !!int ""', "is no YAML"),
    "no date": ("initial_lr: !!timestamp never", "is no YAML"),
    "no flag": ("initial_lr: !!bool never", "is no YAML"),
    "minutes": ("initial_lr: " + ":".join(["59"] * 400) + ".5", "is no YAML"),
    "an object": ("initial_lr: !!python/object/apply:os.system [true]", "is no YAML"),
    "names itself": ("defaults: [recipe]", "names itself under defaults"),
    "no list": ("defaults: recipe", "must be a list of names"),
    "above": ("defaults: [../outside]", "outside of the recipe's folder"),
    "absolute": ("defaults: [/etc/passwd]", "outside of the recipe's folder"),
    "above by the key": (
        "defaults: [training_hyperparams: ../../outside]",
        "outside of the recipe's folder",
    ),
    "by a link": ("defaults: [link]", "outside of the recipe's folder"),
    "by a link of a folder": ("defaults: [folder/outside]", "outside of the recipe's folder"),
    "null": ('defaults: ["a\\0b"]', "null"),
    "long name": (f"defaults: [{'x' * 5000}]", "too long"),
    "ring": ("defaults: [ring1]", "names itself under defaults"),
    "diamonds": ("defaults: [d0, d0]", "more than 32 files"),
    "endless arange": (
        "lr_updates: {_target_: numpy.arange, start: 0, stop: 1000000000000}",
        "at most 10000 epochs are made",
    ),
    "arange by 0": (
        "lr_updates: {_target_: numpy.arange, start: 0, stop: 9, step: 0}",
        "at most 10000 epochs are made",
    ),
    "arange by little": (
        "lr_updates: {_target_: numpy.arange, start: 0, stop: 9, step: 1e-300}",
        "at most 10000 epochs are made",
    ),
    "arange of text": (
        "lr_updates: {_target_: numpy.arange, start: 0, stop: nine}",
        "must be a real number",
    ),
    "arange of nothing": (
        "lr_updates: {_target_: numpy.arange, start: .nan, stop: .inf}",
        "must be a finite number",
    ),
    "arange of a list": (
        "lr_updates: {_target_: numpy.arange, start: [1], stop: 2}",
        "must be a real number",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, match = FILES[name]
    folder = tmp_path / "recipes"
    folder.mkdir()
    (tmp_path / "outside.yaml").write_text("initial_lr: 0.7\nmax_epochs: 3")
    (folder / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "ring1.yaml").write_text("defaults: [ring2]")
    (folder / "ring2.yaml").write_text("defaults: [recipe]")
    for i in range(40):
        (folder / f"d{i}.yaml").write_text(f"defaults: [d{i + 1}, d{i + 1}]")
    path = folder / "recipe.yaml"
    path.write_text(text)
    with pytest.raises((TypeError, ValueError, OSError)):
        from_super_gradients(path, 5)
    with pytest.raises(SystemExit) as exit_info:
        main(["plot", str(path), "--steps-per-epoch", "5"])
    printed = capsys.readouterr()
    assert (exit_info.value.code, printed.out) == (2, "")
    assert match in printed.err
    assert len(printed.err.splitlines()) == 1
    assert len(printed.err) < 800


def test_json_has_the_same_limits(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    for text, match in (
        ("[" * 60_000, "is no JSON"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "more than 32 levels"),
        ('{"a": ' + "1" * 60_000 + "}", "is no JSON"),
        (" " * 70_000, "at most 65536 bytes"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=match):
            from_super_gradients(path, 5)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    for path in (Path("/dev/zero"), Path("/dev/stdin"), tmp_path):
        with pytest.raises(ValueError, match="is no file"):
            from_super_gradients(path, 5)
    circle = tmp_path / "circle.yaml"
    circle.symlink_to(circle)
    with pytest.raises((ValueError, OSError)):
        from_super_gradients(circle, 5)


def test_aliases_within_reason_are_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("rates: &r {default: 1e-1, head: 2e-1}\ninitial_lr: *r\nmax_epochs: 3")
    assert from_super_gradients(path, 5).initial_lr == {"default": 0.1, "head": 0.2}


def test_a_recipe_may_be_a_link_into_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "base.yaml").write_text("initial_lr: 0.5")
    (folder / "recipe.yaml").write_text("defaults: [base]\nmax_epochs: 3")
    link = tmp_path / "mine.yaml"
    link.symlink_to(folder / "recipe.yaml")
    assert from_super_gradients(link, 5).lr == 0.5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr_updates": range(10**12)}, "at most 10000 updates"),
        ({"max_epochs": 10**12, "step_lr_update_freq": 1}, "at most 10000 updates"),
        ({"max_epochs": 10**12, "step_lr_update_freq": 1e-300}, "at most 10000 updates"),
        (
            {"max_epochs": 10**12, "lr_updates": [5], "lr_warmup_epochs": 10**9,
             "batch_accumulate": 3},
            "10000 are the most: shorten it",
        ),
        (
            {"max_epochs": 10**9, "lr_mode": "FunctionLRScheduler",
             "lr_schedule_function": lambda **_: 0.1},
            "at most 4194304 can be",
        ),
    ],
)  # fmt: skip
def test_parameters_that_ask_for_too_much(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        from_super_gradients(STEP | options, 5)


@pytest.mark.parametrize("faithful", [False, True])
def test_long_trainings_with_few_updates_are_short(faithful: bool) -> None:
    params = STEP | {"max_epochs": 10**12, "lr_updates": [10**11, 5, 5], "lr_warmup_epochs": 2}
    schedule = from_super_gradients(params, 5, faithful=faithful).schedule
    assert len(schedule.segments) <= 5
    at = [5 * (epoch + faithful) for epoch in (4, 5, 10**11 - 1, 10**11)]
    assert schedule(at) == pytest.approx([1.0, 0.01, 0.01, 0.001], rel=1e-12)
    freq = STEP | {"max_epochs": 10**12, "step_lr_update_freq": 10**9}
    assert isinstance(from_super_gradients(freq, 5).schedule, Schedule)


class Falling:
    """SuperGradients' function, one that remembers its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, initial_lr: float, **_: object) -> float:
        self.calls += 1
        return initial_lr / self.calls


def test_a_function_that_remembers_is_left_alone() -> None:
    function = Falling()
    params = STEP | {"lr_mode": "FunctionLRScheduler", "lr_schedule_function": function}
    first = from_super_gradients(params, 5)
    assert function.calls == 0
    assert from_super_gradients(params, 5) == first
    assert first.lr_at(10) < first.lr_at(9)
