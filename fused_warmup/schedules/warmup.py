"""Warm-ups: from a small factor to 1 over the first steps, then 1 for good.

Join a warm-up and what follows with ``warmup.then(decay)``, or with
``warmup.then(drops, clock="global")`` where the drops count from the start of training.
"""

import math

from .checks import finite, steps_of, whole
from .schedule import Schedule
from .segment import Kind, Segment


def constant_warmup(
    steps: int | None = None,
    factor: float = 0.1,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Hold a low factor for a while, then jump to 1.

    ``factor if t < steps else 1``; the first three values with the default factor are 0.1, 0.1,
    0.1.

    Args:
        steps: Length in steps (updates of the optimizer).
        factor: The low factor, at least 0.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Returns:
        A schedule of ``steps`` steps.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step; a factor that is negative, infinite or NaN.

    Source:
        He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2; "constant
        warm-up" in Goyal et al. 2017 (arXiv:1706.02677), section 2.2; torch's ConstantLR.

    Example:
        >>> constant_warmup(2, factor=0.5)(range(4))
        [0.5, 0.5, 1.0, 1.0]
    """
    length = _length(steps, epochs, steps_per_epoch)
    low = Segment.constant(finite("factor", factor, 0.0))
    return Schedule((low, Segment.constant(1.0, start=length)), length)


def linear_warmup(
    steps: int | None = None,
    start: float = 0.0,
    *,
    count_from: int = 0,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Rise in equal increments, one per step: the gradual warm-up.

    ``start + (1 - start) * min((t + count_from) / steps, 1)``. With the defaults the first three
    values are 0, 1/steps, 2/steps, and 1 is reached at ``t = steps``; with ``count_from=1`` they
    are 1/steps, 2/steps, 3/steps, and 1 is reached one step earlier. ``start=1 / (steps + 1)``
    gives ``(t + 1) / (steps + 1)``.

    Args:
        steps: Length in steps (updates of the optimizer).
        start: Factor the ramp starts from, at least 0. The very first update is made with it, so
            the default 0 makes an update that moves nothing.
        count_from: What the first step counts as: 0, or 1 for a first update above ``start``.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Returns:
        A schedule of ``steps`` steps.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step; a factor that is negative, infinite or NaN;
            ``count_from`` other than 0 or 1.

    Source:
        Goyal et al. 2017 (arXiv:1706.02677), section 2.2, "gradual warm-up"; torch's LinearLR
        (``start`` is its start_factor, end_factor is 1); with ``start=0`` the warm-up of Hugging
        Face's ``get_*_schedule_with_warmup``.

    Example:
        >>> linear_warmup(4, start=0.5)(range(6))
        [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]
        >>> linear_warmup(4, count_from=1)(range(4))
        [0.25, 0.5, 0.75, 1.0]
        >>> linear_warmup(epochs=0.5, steps_per_epoch=7).steps
        4
    """
    length = _length(steps, epochs, steps_per_epoch)
    return _ramp(Kind.POLY, length, start, count_from)


def cosine_warmup(
    steps: int | None = None,
    start: float = 0.0,
    *,
    count_from: int = 0,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Rise along half a cosine: gently at both ends.

    ``start + (1 - start) * (1 - cos(pi * x)) / 2`` with ``x = min((t + count_from) / steps, 1)``;
    the first three values with ``steps=4`` are 0, 0.1464, 0.5.

    Args:
        steps: Length in steps (updates of the optimizer).
        start: Factor the ramp starts from, at least 0.
        count_from: What the first step counts as: 0, or 1 for a first update above ``start``.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Returns:
        A schedule of ``steps`` steps.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step; a factor that is negative, infinite or NaN;
            ``count_from`` other than 0 or 1.

    Source:
        The rise of torch's OneCycleLR; ``warmup_type="cosine"`` of Hugging Face's
        get_wsd_schedule.

    Example:
        >>> [round(factor, 4) for factor in cosine_warmup(4)(range(5))]
        [0.0, 0.1464, 0.5, 0.8536, 1.0]
    """
    length = _length(steps, epochs, steps_per_epoch)
    return _ramp(Kind.COS, length, start, count_from)


def exponential_warmup(
    steps: int | None = None,
    start: float = 0.01,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Rise by the same ratio at every step.

    ``start ** (1 - t / steps)`` until ``t = steps``, then 1; the first three values with the
    default start and ``steps=4`` are 0.01, 0.0316, 0.1.

    Args:
        steps: Length in steps (updates of the optimizer).
        start: Factor at the first step, above 0.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Returns:
        A schedule of ``steps`` steps.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step; a ``start`` that is not above 0.

    Source:
        The rise of a learning rate range test on a logarithmic scale.

    Example:
        >>> [round(factor, 4) for factor in exponential_warmup(4)(range(6))]
        [0.01, 0.0316, 0.1, 0.3162, 1.0, 1.0]
    """
    length = _length(steps, epochs, steps_per_epoch)
    start = finite("start", start, 0.0, exclusive=True)
    rise = Segment(Kind.EXP, length=length, a=start, p=-math.log(start))
    # The formula may miss 1 by a rounding error; a segment of its own does not.
    return Schedule((rise, Segment.constant(1.0, start=length)), length)


def _length(steps: int | None, epochs: float | None, steps_per_epoch: int | None) -> int:
    try:
        return steps_of(steps, epochs, steps_per_epoch)
    except ValueError as error:
        if steps == 0 or epochs == 0:
            raise ValueError(
                f"{error}, or leave the warm-up out where there is none, as in "
                "schedule = linear_warmup(n).then(decay) if n else decay"
            ) from None
        raise


def _ramp(kind: Kind, length: int, start: float, count_from: int) -> Schedule:
    if whole("count_from", count_from) not in (0, 1):
        raise ValueError(
            f"count_from must be 0 or 1, got {count_from}: use start= for a higher first factor"
        )
    start = finite("start", start, 0.0)
    return Schedule((Segment(kind, shift=count_from, length=length, a=start, b=1.0),), length)
