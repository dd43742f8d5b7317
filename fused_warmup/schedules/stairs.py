"""Piecewise constant: drops are counted in int64, so that none comes early or late."""

import math
from collections.abc import Iterable

from .checks import finite, listed, shown, steps_of
from .schedule import Schedule
from .segment import Kind, PastEnd, Segment


def step(
    step_size: int | None = None,
    gamma: float = 0.1,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Multiply by ``gamma`` every ``step_size`` steps, at once.

    ``gamma ** (t // step_size)``; the first three values with ``step_size=2`` and the default
    gamma are 1, 1, 0.1. Endless; ``.lasting(steps)`` ends it.

    Args:
        step_size: Steps between drops.
        gamma: Factor per drop, at least 0.
        epochs: Epochs between drops instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step; a ``gamma`` that is negative, infinite or NaN.

    Source:
        torch's StepLR.

    Example:
        >>> step(2, gamma=0.5)(range(6))
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    size = steps_of(step_size, epochs, steps_per_epoch, name="step_size")
    gamma = finite("gamma", gamma, 0.0)
    if gamma == 0.0:
        return Schedule((Segment.constant(1.0), Segment.constant(0.0, start=size)))
    p = math.log(gamma)
    return Schedule((Segment(Kind.EXP, PastEnd.CONTINUE, stair=size, length=size, p=p),))


def multi_step(
    milestones: Iterable[int] | None = None,
    gamma: float = 0.1,
    *,
    epochs: Iterable[float] | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Multiply by ``gamma`` at each milestone.

    ``gamma ** (number of milestones <= t)``; the first three values with milestones 1 and 2 and
    the default gamma are 1, 0.1, 0.01. Endless; ``.lasting(steps)`` ends it. After a warm-up,
    ``warmup.then(multi_step(...), clock="global")`` counts milestones from the start of training.

    Args:
        milestones: Steps at which to drop, in any order; a step named twice drops twice.
        gamma: Factor per drop, at least 0.
        epochs: Milestones in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both kinds of milestones or none; a value of the wrong type.
        ValueError: No milestones, or more than 16,384; a negative one; a ``gamma`` that is
            negative, infinite or NaN.

    Source:
        torch's MultiStepLR.

    Example:
        >>> multi_step([2, 4], gamma=0.5)(range(6))
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
        >>> multi_step(epochs=(30, 60, 80), steps_per_epoch=100)
        multi_step([3000, 6000, 8000], gamma=0.1)
    """
    gamma = finite("gamma", gamma, 0.0)
    if milestones is not None and epochs is None:
        given: list[tuple[int | None, float | None]] = [
            (drop, None) for drop in listed("milestones", milestones)
        ]
    elif milestones is None and epochs is not None:
        given = [(None, drop) for drop in listed("epochs", epochs)]
    else:
        raise TypeError(
            f"got milestones={shown(milestones)} and epochs={shown(epochs)}: give the "
            "milestones either in steps or in epochs"
        )
    if not given:
        raise ValueError("got no milestones, at least one is needed: use constant() for none")
    drops = sorted(
        steps_of(drop, epoch, steps_per_epoch, name="milestones", minimum=0)
        for drop, epoch in given
    )
    # A dict, so that a milestone named twice leaves one segment with both drops.
    values = {0: 1.0} | {drop: gamma**count for count, drop in enumerate(drops, start=1)}
    return Schedule(tuple(Segment.constant(value, start) for start, value in values.items()))
