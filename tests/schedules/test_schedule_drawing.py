"""`Schedule.plot`: into axes, into a figure of its own, and in characters without matplotlib."""

import importlib.util
from typing import Any

import pytest

from fused_warmup.schedules import constant, linear_warmup


@pytest.fixture
def pyplot(monkeypatch: pytest.MonkeyPatch) -> Any:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_the_curve_holds_every_step_and_the_one_after(pyplot: Any) -> None:
    axes = linear_warmup(4).plot(lr=0.8)
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [0, 1, 2, 3, 4]
    assert line.get_ydata().tolist() == [0.8 * linear_warmup(4)(t) for t in range(5)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "learning rate")
    assert len(pyplot.get_fignums()) == 1


def test_factors_are_called_so_and_an_endless_schedule_ends(pyplot: Any) -> None:
    axes = constant(0.5).plot()
    assert axes.get_ylabel() == "factor on lr"
    assert len(axes.lines[0].get_xdata()) == 1000
    assert len(constant(0.5).plot(steps=7).lines[0].get_xdata()) == 7


def test_axes_that_are_given_are_drawn_into(pyplot: Any) -> None:
    _, axes = pyplot.subplots()
    assert linear_warmup(4).plot(axes=axes) is axes
    assert constant(0.5).plot(steps=5, axes=axes) is axes
    assert len(axes.lines) == 2
    assert len(pyplot.get_fignums()) == 1


def test_without_matplotlib_it_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert linear_warmup(71).plot(lr=0.5) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("      0.5 |")
    assert lines[0].endswith("█")
    assert lines[-1].split() == ["0", "71"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, r"steps must lie in \[1, .*got 0"),
        ({"lr": float("nan")}, "lr must be"),
        ({"lr": -1.0}, "lr must be"),
        ({"lr": 1e308}, "lr=1e.308 overflow"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        constant(9.0).plot(**options)
