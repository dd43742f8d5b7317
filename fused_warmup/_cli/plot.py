"""``plot``: a schedule in the terminal, and as a PNG where matplotlib is installed."""

import argparse
import importlib.util
import shutil
from pathlib import Path
from typing import Any

from ..conversions.super_gradients import from_super_gradients
from ..schedules.checks import finite, whole
from ..schedules.drawing import Curve, draw, encodable
from .expression import BUILDERS, METHODS, parse_schedule
from .terminal import printable

MAX_CURVES = 32
"""Most groups of a recipe that are drawn."""
MARGIN = 11
"""Columns of the terminal to the left of a drawing."""


def save(found: dict[str, Curve], title: str, path: Path) -> None:
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
        axes.plot(*curve.sampled(), label=printable(name))
    axes.set(xlabel="step", ylabel="learning rate")
    axes.grid(alpha=0.3)
    texts = [axes.set_title(printable(title[:80]))]
    if len(found) > 1:
        texts += axes.legend().get_texts()
    for text in texts:  # names are no formulas, whatever dollars are in them
        text.set_parse_math(False)
    figure.savefig(path, dpi=120)


def curves(options: argparse.Namespace) -> tuple[dict[str, Curve], str]:
    """Return what to draw, by name, and what else a recipe says."""
    path = Path(options.schedule)
    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}: leave it out for all")
    if path.suffix in (".json", ".yaml", ".yml"):
        if options.lr is not None:
            raise ValueError(f"{path.name} has its own rates, got --lr={options.lr}: leave it out")
        if options.steps_per_epoch is None:
            raise ValueError(
                f"{path.name} counts epochs: pass --steps-per-epoch, the batches of one"
            )
        recipe = from_super_gradients(path, options.steps_per_epoch)
        steps = options.steps or recipe.steps
        rates = recipe.initial_lr.items()
        if len(rates) > MAX_CURVES:
            raise ValueError(
                f"{path.name} has {len(rates)} groups, at most {MAX_CURVES} are drawn: draw a "
                "recipe with fewer, from_super_gradients takes any"
            )
        drawn = {name: Curve(recipe.schedules[name], lr, steps) for name, lr in rates}
        return drawn, str(recipe)
    lr = 1.0 if options.lr is None else finite("--lr", options.lr, 0.0)
    schedule = parse_schedule(options.schedule)
    if options.steps_per_epoch is not None:
        schedule = schedule.stretched(whole("--steps-per-epoch", options.steps_per_epoch, 1))
    return {"learning rate": Curve(schedule, lr, options.steps)}, ""


def add_plot(commands: Any) -> None:
    """Add the command to the parser."""

    def run(options: argparse.Namespace) -> None:
        found, said = curves(options)
        if options.png is not None:  # first, so that its error does not follow on a drawing
            save(found, options.schedule, options.png)
        width = min(72, max(8, shutil.get_terminal_size((83, 24)).columns - MARGIN))
        for name, curve in found.items():
            _, rates = curve.sampled()
            ends = f"first {rates[0]:.4g}, last {rates[-1]:.4g}"
            print(f"{printable(name)}, {curve.length} steps, {ends}")
            print(encodable(draw(rates, width, last=curve.length - 1)))
        for line in said.splitlines():
            print(printable(line))
        if options.png is not None:
            print(f"wrote {options.png}")

    parser = commands.add_parser(
        "plot",
        help="draw a schedule in the terminal, and as PNG",
        epilog=f"Builders: {', '.join(BUILDERS)}. Methods of what they make: "
        f"{', '.join('.' + name for name in METHODS)}.",
    )
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
