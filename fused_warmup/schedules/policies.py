"""Whole policies: a rise, what follows and an end, from one call."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from .checks import finite, shown, steps_of
from .schedule import Schedule
from .segment import Kind, Segment


def one_cycle(
    steps: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Rise to the highest learning rate, then fall far below the first.

    From ``1 / div_factor`` at ``t = 0`` to 1 at ``t = pct_start * steps - 1``, then to
    ``1 / (div_factor * final_div_factor)`` at ``t = steps - 1``, where it stays. With
    ``three_phase`` it first returns to ``1 / div_factor``, at ``t = 2 * pct_start * steps - 2``.
    The peak may lie between two steps. The base learning rate is the highest, max_lr in torch.
    The first three values with ``steps=10, anneal_strategy="linear"`` are 0.04, 0.52, 1.

    torch's OneCycleLR also cycles the momentum (cycle_momentum): that is `one_cycle_momentum`.

    Args:
        steps: Length in steps, at least 2.
        pct_start: Share of the steps spent rising, in [0, 1]; at most 0.5 with ``three_phase``.
        anneal_strategy: ``"cos"`` for half cosines, ``"linear"`` for straight lines.
        div_factor: Highest factor over the first, above 0.
        final_div_factor: First factor over the last, above 0.
        three_phase: Fall as long as it rose, then fall further.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A value out of its range; an unknown strategy.

    Source:
        Smith & Topin 2018, "Super-Convergence" (arXiv:1708.07120); torch's OneCycleLR.

    Example:
        >>> [round(factor, 4) for factor in one_cycle(10, anneal_strategy="linear")([0, 1, 2, 9])]
        [0.04, 0.52, 1.0, 0.0]
    """
    length = steps_of(steps, epochs, steps_per_epoch, minimum=2)
    first = 1.0 / finite("div_factor", div_factor, 0.0, exclusive=True)
    last = first / finite("final_div_factor", final_div_factor, 0.0, exclusive=True)
    heights = [first, 1.0, first, last] if three_phase else [first, 1.0, last]
    return cycle_through(heights, length, pct_start, anneal_strategy)


def cycle_through(
    heights: Sequence[float], length: int, pct_start: float, anneal_strategy: str
) -> Schedule:
    """Return the curve that has these heights where the phases of `one_cycle` begin and end."""
    three_phase = len(heights) == 4
    rise = finite("pct_start", pct_start, 0.0, 0.5 if three_phase else 1.0) * length - 1.0
    kinds = {"cos": Kind.COS, "linear": Kind.POLY}
    if anneal_strategy not in kinds:
        raise ValueError(
            f"anneal_strategy must be one of {list(kinds)}, got {shown(anneal_strategy)}: use "
            "one of these"
        )
    ends = [rise, *[2.0 * pct_start * length - 2.0] * three_phase, length - 1.0]
    return Schedule(curve_through(heights, ends, kinds[anneal_strategy]), length)


def curve_through(
    heights: Sequence[float], ends: Sequence[float], kind: Kind
) -> tuple[Segment, ...]:
    """Return what starts at the first height and has reached the next ones at ``ends``."""
    segments: list[Segment] = []
    begin, start = 0.0, 0
    for end, a, b in zip(ends, heights[:-1], heights[1:], strict=True):
        # A phase that no whole step falls into leaves no segment, but the next begins at its end.
        if end > begin and end >= start:
            segments.append(
                Segment(
                    kind,
                    start=start,
                    origin=start,
                    shift=start - begin,
                    length=end - begin,
                    a=a,
                    b=b,
                )
            )
            start = math.floor(end) + 1
        begin = end
    return tuple(segments)


def warmup_stable_decay(
    warmup_steps: int | None = None,
    stable_steps: int | None = None,
    decay_steps: int | None = None,
    *,
    warmup: Literal["linear", "cosine", "1-sqrt"] = "linear",
    decay: Literal["cosine", "linear", "1-sqrt"] = "cosine",
    start: float = 0.0,
    end: float = 0.0,
    warmup_epochs: float | None = None,
    stable_epochs: float | None = None,
    decay_epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Rise, stay at 1, then fall to the end: the trapezoid.

    With W, S and D the steps of the three parts:
    ``start + (1 - start) * up(t / W)`` for ``t < W``, 1 for ``t < W + S``, then
    ``end + (1 - end) * down(min((t - W - S) / D, 1))``, where ``up(x)`` is ``x``,
    ``(1 - cos(pi x)) / 2`` or ``1 - sqrt(1 - x)`` and ``down(x)`` is ``(1 + cos(pi x)) / 2``,
    ``1 - x`` or ``1 - sqrt(x)``. Steps are counted from 0 in each part: the first update is made
    with ``start``, 1 is reached at ``t = W`` and left after ``t = W + S``. The first three values
    with ``warmup_steps=4`` are 0, 0.25, 0.5.

    Args:
        warmup_steps: Steps of the rise, may be 0.
        stable_steps: Steps at 1, may be 0.
        decay_steps: Steps of the fall.
        warmup: Shape of the rise.
        decay: Shape of the fall.
        start: First factor, at least 0.
        end: Last factor, at least 0.
        warmup_epochs: The rise in epochs instead, may be fractional, rounded to the nearest step.
        stable_epochs: The stay in epochs.
        decay_epochs: The fall in epochs.
        steps_per_epoch: Steps per epoch, if all three lengths are in epochs.

    Raises:
        TypeError: A length given twice or not at all; a value of the wrong type.
        ValueError: A value out of its range; an unknown shape.

    Source:
        Hu et al. 2024, "MiniCPM" (arXiv:2404.06395), section 4; "1-sqrt" from Hägele et al. 2024
        (arXiv:2405.18392); Hugging Face's get_wsd_schedule, whose min_lr_ratio is both ``start``
        and ``end`` here.

    Example:
        >>> warmup_stable_decay(2, 2, 4, decay="linear")(range(9))
        [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    rises = {
        "linear": Segment(b=1.0),
        "cosine": Segment(Kind.COS, b=1.0),
        "1-sqrt": Segment(b=1.0, p=0.5),
    }
    falls = {"cosine": Segment(Kind.COS), "linear": Segment(), "1-sqrt": Segment(k=0.5)}
    for name, shape, shapes in (("warmup", warmup, rises), ("decay", decay, falls)):
        if shape not in shapes:
            raise ValueError(f"{name} must be one of {list(shapes)}, got {shown(shape)}: use one")
    start, end = finite("start", start, 0.0), finite("end", end, 0.0)

    def part(name: str, in_steps: int | None, in_epochs: float | None, minimum: int) -> int:
        names = {"name": f"{name}_steps", "in_epochs": f"{name}_epochs"}
        return steps_of(in_steps, in_epochs, steps_per_epoch, minimum=minimum, **names)

    rise = part("warmup", warmup_steps, warmup_epochs, 0)
    stay = part("stable", stable_steps, stable_epochs, 0)
    fall = part("decay", decay_steps, decay_epochs, 1)
    schedule = Schedule((replace(falls[decay], length=fall, b=end),), fall)
    if stay:
        schedule = Schedule((Segment.constant(1.0),), stay).then(schedule)
    if rise:
        schedule = Schedule((replace(rises[warmup], length=rise, a=start),), rise).then(schedule)
    return schedule
