"""A schedule as a curve: with matplotlib where it is installed, else in characters."""

import importlib.util
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .checks import finite, whole

if TYPE_CHECKING:
    from .schedule import Schedule

BLOCKS = " ▁▂▃▄▅▆▇█"
ENDLESS = 1000
"""Steps that are drawn of a schedule without a length."""
POINTS = 10_000
"""Points of a curve, far more than a picture has pixels, so that no peak is missed in it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The rate at ``steps`` steps, worked out where it is asked for.

    Args:
        schedule: The factor.
        lr: The base learning rate.
        steps: How many steps; None: the schedule's own and the one after, `ENDLESS` without any.
    """

    schedule: "Schedule"
    lr: float = 1.0
    steps: int | None = None

    @property
    def length(self) -> int:
        """How many steps are drawn."""
        own = self.schedule.steps
        return self.steps or (own + 1 if own else ENDLESS)

    def sampled(self, points: int = POINTS) -> tuple[list[int], list[float]]:
        """Return at most ``points`` steps, the first and the last among them, and their rates."""
        count = min(points, self.length)
        at = [i * (self.length - 1) // max(count - 1, 1) for i in range(count)]
        rates = [self.lr * self.schedule(t) for t in at]
        if not all(map(math.isfinite, rates)):
            raise ValueError(f"the learning rates with lr={self.lr} overflow: lower it")
        return at, rates


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


def encodable(drawing: str) -> str:
    """Return the drawing in the characters that the terminal has."""
    try:
        drawing.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return drawing.translate(dict(zip(map(ord, BLOCKS), "    #####", strict=True)))
    return drawing


def plot(schedule: "Schedule", steps: int | None, lr: float, axes: Any) -> Any:
    """Do what `Schedule.plot` says."""
    curve = Curve(
        schedule, finite("lr", lr, 0.0), None if steps is None else whole("steps", steps, 1)
    )
    at, rates = curve.sampled()
    if axes is None and importlib.util.find_spec("matplotlib") is None:
        print(encodable(draw(rates, last=curve.length - 1)))
        return None
    if axes is None:
        from matplotlib import pyplot

        _, axes = pyplot.subplots(layout="constrained")
    axes.plot(at, rates)
    axes.set(xlabel="step", ylabel="learning rate" if lr != 1.0 else "factor on lr")
    axes.grid(alpha=0.3)
    return axes
