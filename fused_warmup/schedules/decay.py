"""Smooth decays: each starts at 1 on its own clock and needs no state but the step."""

import math

from .checks import finite, steps_of, whole
from .schedule import Schedule
from .segment import Kind, PastEnd, Segment


def constant(value: float = 1.0, steps: int | None = None) -> Schedule:
    """Stay at one value.

    ``value``; the first three values are 1, 1, 1.

    Args:
        value: The factor, at least 0.
        steps: Length in steps, for another schedule to follow; None: endless.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A factor that is negative, infinite or NaN; a length below one step.

    Example:
        >>> constant(0.5)(range(3))
        [0.5, 0.5, 0.5]
    """
    length = None if steps is None else whole("steps", steps, 1)
    return Schedule((Segment.constant(finite("value", value, 0.0)),), length)


def linear(
    steps: int | None = None,
    start: float = 1.0,
    end: float = 0.0,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Go from ``start`` to ``end`` in a straight line, then stay there.

    ``start + (end - start) * min(t / steps, 1)``; the first three values are 1, 1 - 1/steps,
    1 - 2/steps.

    Args:
        steps: Length in steps (updates of the optimizer).
        start: Factor at the first step, at least 0.
        end: Factor at ``t = steps`` and later, at least 0.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step; a factor that is negative, infinite or NaN.

    Source:
        torch's LinearLR (start_factor, end_factor).

    Example:
        >>> linear(4)(range(6))
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    length = steps_of(steps, epochs, steps_per_epoch)
    start, end = finite("start", start, 0.0), finite("end", end, 0.0)
    return Schedule((Segment(length=length, a=start, b=end),), length)


def polynomial(
    steps: int | None = None,
    power: float = 1.0,
    end: float = 0.0,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Fall from 1 to ``end`` as a power of the time left, then stay there.

    ``end + (1 - end) * (1 - min(t / steps, 1)) ** power``; the first three values with
    ``steps=4, power=2`` are 1, 0.5625, 0.25.

    Args:
        steps: Length in steps (updates of the optimizer).
        power: Exponent, above 0; 1 is linear, 2 is quadratic, 0.9 is common in segmentation.
        end: Factor at ``t = steps`` and later, at least 0.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step; ``power`` not above 0; a negative ``end``.

    Source:
        torch's PolynomialLR (``end=0``); "poly" in Chen et al. 2017, "DeepLab", section 4.1.

    Example:
        >>> polynomial(4, power=2)(range(6))
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """
    length = steps_of(steps, epochs, steps_per_epoch)
    power = finite("power", power, 0.0, exclusive=True)
    return Schedule((Segment(length=length, b=finite("end", end, 0.0), p=power),), length)


def cosine(
    steps: int | None = None,
    end: float = 0.0,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Fall from 1 to ``end`` along half a cosine, then stay there.

    ``end + (1 - end) * (1 + cos(pi * min(t / steps, 1))) / 2``; the first three values with
    ``steps=4`` are 1, 0.8536, 0.5. torch's CosineAnnealingLR rises again after T_max; this stays.

    Args:
        steps: Length in steps (updates of the optimizer).
        end: Factor at ``t = steps`` and later, at least 0: eta_min / lr.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step; an ``end`` that is negative, infinite or NaN.

    Source:
        Loshchilov & Hutter 2017, "SGDR" (arXiv:1608.03983), equation 5, without restarts.

    Example:
        >>> [round(factor, 4) for factor in cosine(4)(range(6))]
        [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """
    length = steps_of(steps, epochs, steps_per_epoch)
    return Schedule((Segment(Kind.COS, length=length, b=finite("end", end, 0.0)),), length)


def exponential(
    gamma: float,
    steps_per_decay: int | None = None,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Multiply by ``gamma`` every ``steps_per_decay`` steps, smoothly.

    ``gamma ** (t / steps_per_decay)``; the first three values with ``gamma=0.5`` are 1, 0.5, 0.25.
    See `step` for the piecewise-constant form. Endless; ``.lasting(steps)`` ends it.

    Args:
        gamma: Factor per decay, at least 0.
        steps_per_decay: Steps over which the factor is reached; 1 if no length is given at all.
        epochs: The same in epochs, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths; a value of the wrong type.
        ValueError: A length below one step; a ``gamma`` that is negative, infinite or NaN.

    Source:
        torch's ExponentialLR (``steps_per_decay=1``).

    Example:
        >>> [round(factor, 4) for factor in exponential(0.25, 2)(range(4))]
        [1.0, 0.5, 0.25, 0.125]
    """
    if steps_per_decay is epochs is steps_per_epoch is None:
        steps_per_decay = 1
    length = steps_of(steps_per_decay, epochs, steps_per_epoch, name="steps_per_decay")
    gamma = finite("gamma", gamma, 0.0)
    if gamma == 0.0:
        return Schedule((Segment.constant(1.0), Segment.constant(0.0, start=1)))
    fall = Segment(Kind.EXP, PastEnd.CONTINUE, length=length, p=math.log(gamma))
    return Schedule((fall,))


def inverse_sqrt(
    timescale: int | None = None,
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Fall as the inverse square root of the step.

    ``(1 + t / timescale) ** -0.5``; the first three values with ``timescale=1`` are 1, 0.7071,
    0.5774. ``t`` is the schedule's own: after a warm-up of W steps it is the global step less W,
    and the peak 1 is at ``t = W``. Endless; ``.lasting(steps)`` ends it.

    Args:
        timescale: Steps after which the factor has fallen to ``1 / sqrt(2)``.
        epochs: The same in epochs, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A length below one step.

    Source:
        Vaswani et al. 2017, "Attention Is All You Need", equation 3, relative to its peak, for
        ``linear_warmup(W).then(inverse_sqrt(W))``; with any ``timescale`` Hugging Face's
        get_inverse_sqrt_schedule.

    Example:
        >>> from fused_warmup.schedules import linear_warmup
        >>> linear_warmup(2).then(inverse_sqrt(2))([0, 1, 2, 8])
        [0.0, 0.5, 1.0, 0.5]
    """
    length = steps_of(timescale, epochs, steps_per_epoch, name="timescale")
    return Schedule((Segment(Kind.POW, PastEnd.CONTINUE, length=length, p=0.5),))
