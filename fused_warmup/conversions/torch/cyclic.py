"""What torch's CyclicLR does between two values, for the rate and for the momentum."""

import math
from dataclasses import replace
from typing import Any

from ...schedules.segment import Kind, Segment

MAX_WAVE = 2**18
"""Longest cycle, in steps, that is held as a table of its values: 2 MiB, in a second."""
MAX_LINES = 256


def has_wave(leaf: Any) -> bool:
    """Tell whether a table of one cycle states a CyclicLR for ever."""
    gamma = leaf.gamma if leaf.mode == "exp_range" else 1.0
    whole = leaf.total_size == int(leaf.total_size) and leaf.total_size <= MAX_WAVE
    return leaf._scale_fn_custom is None and whole and gamma > 0.0


def wave(leaf: Any, low: float, high: float) -> Segment | None:
    """Return the triangles from ``low`` towards ``high``; None where no formula does."""
    if leaf.last_epoch < 0 or not has_wave(leaf):
        return None
    up, size = leaf.total_size * leaf.step_ratio, int(leaf.total_size)
    gamma = leaf.gamma if leaf.mode == "exp_range" else 1.0
    heights = [n / up if n <= up else (size - n) / (size - up) for n in range(size)]
    gain = math.log(0.5) if leaf.mode == "triangular2" else size * math.log(gamma)
    return Segment(
        Kind.TABLE,
        origin=-leaf.last_epoch,
        period=size,
        b=low,
        log_cycle_gain=gain,
        values=tuple(low + (high - low) * h * gamma**n for n, h in enumerate(heights)),
    )


def line(leaf: Any, low: float, high: float) -> tuple[Segment, int] | None:
    """Return the side of its triangle that a CyclicLR is on, and the steps that are left of it."""
    if leaf.last_epoch < 0 or leaf.scale_mode != "cycle":
        return None
    total, up = leaf.total_size, leaf.total_size * leaf.step_ratio
    cycle = math.floor(1 + leaf.last_epoch / total)
    n = leaf.last_epoch - (cycle - 1) * total
    peak = low + (high - low) * leaf.scale_fn(cycle)
    if n < up:
        return Segment(shift=n, length=up, a=low, b=peak), math.floor(up - n)
    return Segment(shift=n - up, length=total - up, a=peak, b=low), math.floor(total - n)


def lines(leaf: Any, low: float, high: float, steps: int) -> list[Segment] | None:
    """Return the sides of the next ``steps`` steps; None if they are many, or not straight.

    After them the last value stays. ``leaf`` is moved on.
    """
    found: list[Segment] = []
    t = 0
    while t < steps:
        here = line(leaf, low, high)
        if here is None or len(found) == MAX_LINES:
            return None
        segment, left = here
        found.append(replace(segment, start=t, origin=t))
        t += left + 1
        leaf.last_epoch += left + 1
    return [*found, Segment.constant(found[-1].value_at(steps - 1), steps)]


def values(leaf: Any, low: float, high: float, steps: range) -> list[float]:
    """Return the values at some steps, as CyclicLR.get_lr works them out."""
    total, ratio, scale = leaf.total_size, leaf.step_ratio, leaf.scale_fn
    by_cycle = leaf.scale_mode == "cycle"
    found = []
    for t in steps:
        cycle = math.floor(1 + t / total)
        x = 1.0 + t / total - cycle
        height = x / ratio if x <= ratio else (x - 1) / (ratio - 1)
        found.append(low + (high - low) * height * scale(cycle if by_cycle else t))
    return found
