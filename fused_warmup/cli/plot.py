"""``plot``: a schedule in the terminal, and as a PNG where matplotlib is installed."""

import argparse
import importlib.util
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..schedules import Schedule
from ..super_gradients import from_super_gradients
from .expression import parse_schedule

BLOCKS = " ▁▂▃▄▅▆▇█"
ENDLESS = 1000
"""Steps that are drawn of a schedule without a length."""


def draw(rates: list[float], width: int = 72, height: int = 12) -> str:
    """Draw numbers as columns of blocks over an axis of steps.

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
    last = str(len(rates) - 1)
    return "\n".join([*lines, f"{'':>9}  0{last:>{max(width - 1, len(last))}}"])


def save(rates: dict[str, list[float]], title: str, path: Path) -> None:
    """Write the curves as a picture.

    Raises:
        ValueError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(f"{path} needs matplotlib: pip install matplotlib, or leave --png out")
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in rates.items():
        axes.plot(values, label=name)
    axes.set(title=title, xlabel="step", ylabel="learning rate")
    axes.grid(alpha=0.3)
    if len(rates) > 1:
        axes.legend()
    figure.savefig(path, dpi=120)


def read_recipe(path: Path) -> Mapping[str, Any]:
    """Return the training parameters of a SuperGradients recipe, a YAML or a JSON file.

    Raises:
        ValueError: The file holds no mapping, or YAML while PyYAML is not installed.
    """
    text = path.read_text()
    if path.suffix == ".json":
        recipe = json.loads(text)
    else:
        if importlib.util.find_spec("yaml") is None:
            raise ValueError(f"{path} needs PyYAML: pip install pyyaml, or give the recipe as JSON")
        import yaml  # type: ignore[import-untyped]

        recipe = yaml.safe_load(text)
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} holds a {type(recipe).__name__}, a mapping is needed")
    inner = recipe.get("training_hyperparams", recipe)
    return inner if isinstance(inner, dict) else recipe


def curves(options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the rates to draw, by name."""
    path = Path(options.schedule)
    if path.suffix in (".json", ".yaml", ".yml"):
        if options.steps_per_epoch is None:
            raise ValueError(f"{path.name} counts epochs: pass --steps-per-epoch, batches of one")
        recipe = from_super_gradients(read_recipe(path), options.steps_per_epoch)
        steps = options.steps or recipe.steps
        rates = recipe.initial_lr.items()
        return {name: _rates(recipe.schedules[name], steps, lr) for name, lr in rates}
    schedule = parse_schedule(options.schedule)
    if options.steps_per_epoch is not None:
        schedule = schedule.stretched(options.steps_per_epoch)
    steps = options.steps or (schedule.steps + 1 if schedule.steps else ENDLESS)
    return {"learning rate": _rates(schedule, steps, options.lr)}


def _rates(schedule: Schedule, steps: int, lr: float) -> list[float]:
    if steps < 1 or not math.isfinite(lr):
        raise ValueError(f"got --steps={steps} and --lr={lr}: both must be positive and finite")
    return [lr * schedule(t) for t in range(steps)]


def add_plot(commands: Any) -> None:
    """Add the command to the parser."""

    def run(options: argparse.Namespace) -> None:
        found = curves(options)
        if options.png is not None:  # first, so that its error does not follow on a drawing
            save(found, options.schedule, options.png)
        for name, rates in found.items():
            print(f"{name}, {len(rates)} steps, first {rates[0]:.4g}, last {rates[-1]:.4g}")
            print(draw(rates))
        if options.png is not None:
            print(f"wrote {options.png}")

    parser = commands.add_parser("plot", help="draw a schedule in the terminal, and as PNG")
    parser.add_argument(
        "schedule",
        help='builders, as "linear_warmup(100).then(cosine(900))", or a SuperGradients recipe '
        "(.yaml, .json)",
    )
    parser.add_argument("--lr", type=float, default=1.0, help="base learning rate (1)")
    parser.add_argument("--steps", type=int, help="steps to draw (the schedule's own)")
    parser.add_argument(
        "--steps-per-epoch", type=int, help="batches of an epoch, where the schedule counts epochs"
    )
    parser.add_argument("--png", type=Path, help="file to draw into")
    parser.set_defaults(run=run)
