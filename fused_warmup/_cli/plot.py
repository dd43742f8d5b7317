"""``plot``: a schedule in the terminal, and as a PNG where matplotlib is installed."""

import argparse
import importlib.util
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..conversions.super_gradients import from_super_gradients
from ..schedules import Schedule
from ..schedules.checks import finite, whole
from .expression import parse_schedule
from .terminal import printable

BLOCKS = " ▁▂▃▄▅▆▇█"
ENDLESS = 1000
"""Steps that are drawn of a schedule without a length."""
POINTS = 10_000
"""Points of a curve, far more than a picture has pixels, so that no peak is missed in it."""
MAX_CURVES = 32
"""Most groups of a recipe that are drawn."""
MARGIN = 11
"""Columns of the terminal to the left of a drawing."""


def draw(rates: list[float], width: int = 72, height: int = 12, last: int | None = None) -> str:
    """Draw numbers as columns of blocks over an axis of steps, of which ``last`` is the last.

    Example:
        >>> print(draw([0.0, 0.5, 1.0, 0.5], width=4, height=2))
                1 |  █
                0 | ███
                  +----
                   0  3
    """
    top, bottom = max(rates), min(0.0, *rates)
    span = (top - bottom) or 1.0
    width = min(width, len(rates))
    columns = [rates[round(i * (len(rates) - 1) / max(width - 1, 1))] for i in range(width)]
    eighths = [round((rate - bottom) / span * height * 8) for rate in columns]
    lines = []
    for row in reversed(range(height)):
        label = top if row == height - 1 else bottom if row == 0 else None
        cells = "".join(BLOCKS[min(max(n - 8 * row, 0), 8)] for n in eighths)
        lines.append(f"{'' if label is None else format(label, '.4g'):>9} |{cells}".rstrip())
    lines.append(f"{'':>9} +{'-' * width}")
    end = str(len(rates) - 1 if last is None else last)
    return "\n".join([*lines, f"{'':>9}  0{end:>{max(width - 1, len(end))}}"])


def save(found: dict[str, "Curve"], title: str, path: Path) -> None:
    """Write the curves as a picture.

    Raises:
        ValueError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(f"{path} needs matplotlib: pip install matplotlib, or leave --png out")
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in found.items():
        axes.plot(*curve.sampled(POINTS), label=printable(name))
    axes.set(xlabel="step", ylabel="learning rate")
    axes.grid(alpha=0.3)
    texts = [axes.set_title(printable(title[:80]))]
    if len(found) > 1:
        texts += axes.legend().get_texts()
    for text in texts:  # names are no formulas, whatever dollars are in them
        text.set_parse_math(False)
    figure.savefig(path, dpi=120)


@dataclass(frozen=True, slots=True)
class Curve:
    """The rate at ``steps`` steps, worked out where it is asked for."""

    schedule: Schedule
    lr: float
    steps: int

    def sampled(self, points: int) -> tuple[list[int], list[float]]:
        """Return at most ``points`` steps, the first and the last among them, and their rates."""
        count = min(points, self.steps)
        at = [i * (self.steps - 1) // max(count - 1, 1) for i in range(count)]
        rates = [self.lr * self.schedule(t) for t in at]
        if not all(map(math.isfinite, rates)):
            raise ValueError(f"the rates of --lr={self.lr} are beyond all numbers: lower it")
        return at, rates


def curves(options: argparse.Namespace) -> dict[str, Curve]:
    """Return what to draw, by name."""
    path = Path(options.schedule)
    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}: leave it out for all")
    if path.suffix in (".json", ".yaml", ".yml"):
        if options.lr is not None:
            raise ValueError(f"{path.name} has its own rates, got --lr={options.lr}: leave it out")
        if options.steps_per_epoch is None:
            raise ValueError(f"{path.name} counts epochs: pass --steps-per-epoch, batches of one")
        recipe = from_super_gradients(path, options.steps_per_epoch)
        steps = options.steps or recipe.steps
        rates = recipe.initial_lr.items()
        if len(rates) > MAX_CURVES:
            raise ValueError(
                f"{path.name} has {len(rates)} groups, at most {MAX_CURVES} are drawn: draw a "
                "recipe with fewer, from_super_gradients takes any"
            )
        return {name: Curve(recipe.schedules[name], lr, steps) for name, lr in rates}
    lr = 1.0 if options.lr is None else finite("--lr", options.lr, 0.0)
    schedule = parse_schedule(options.schedule)
    if options.steps_per_epoch is not None:
        schedule = schedule.stretched(whole("--steps-per-epoch", options.steps_per_epoch, 1))
    steps = options.steps or (schedule.steps + 1 if schedule.steps else ENDLESS)
    return {"learning rate": Curve(schedule, lr, steps)}


def _drawable(drawing: str) -> str:
    """The drawing in the characters that the terminal has."""
    try:
        drawing.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return drawing.translate(dict(zip(map(ord, BLOCKS), "    #####", strict=True)))
    return drawing


def add_plot(commands: Any) -> None:
    """Add the command to the parser."""

    def run(options: argparse.Namespace) -> None:
        found = curves(options)
        if options.png is not None:  # first, so that its error does not follow on a drawing
            save(found, options.schedule, options.png)
        width = min(72, max(8, shutil.get_terminal_size((83, 24)).columns - MARGIN))
        for name, curve in found.items():
            _, rates = curve.sampled(POINTS)
            ends = f"first {rates[0]:.4g}, last {rates[-1]:.4g}"
            print(f"{printable(name)}, {curve.steps} steps, {ends}")
            print(_drawable(draw(rates, width, last=curve.steps - 1)))
        if options.png is not None:
            print(f"wrote {options.png}")

    parser = commands.add_parser("plot", help="draw a schedule in the terminal, and as PNG")
    parser.add_argument(
        "schedule",
        help='builders, as "linear_warmup(100).then(cosine(900))", or a SuperGradients recipe '
        "(.yaml, .json)",
    )
    parser.add_argument("--lr", type=float, help="base learning rate of builders (1)")
    parser.add_argument("--steps", type=int, help="steps to draw (the schedule's own)")
    parser.add_argument(
        "--steps-per-epoch", type=int, help="batches of an epoch, where the schedule counts epochs"
    )
    parser.add_argument("--png", type=Path, help="file to draw into")
    parser.set_defaults(run=run)
