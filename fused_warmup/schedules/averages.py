"""Factors on the decay of averages: low at first, so that an average soon forgets where it started.

`SGD` takes them as ``ema_schedule``; its averages have the decay ``ema_decay * schedule(t)`` at the
update after step ``t``.
"""

from .checks import finite, whole
from .schedule import Schedule
from .segment import Kind, PastEnd, Segment

FURTHEST = 2**60
"""Where a decay that has not come to its bound by then is left to itself."""


def ema_threshold(decay: float, *, count_from: int = 0, per_step: int = 1) -> Schedule:
    """Let averages have the decay ``min(decay, (1 + n) / (10 + n))``.

    ``min(decay, (1 + n) / (10 + n)) / decay`` with ``n = per_step * (t + count_from)``; the first
    three decays are 0.1, 0.1818 and 0.25, so that an average of the first steps is nearly a mean.

    Args:
        decay: What ``ema_decay`` is, above 0 and at most 1: from there on the factor is 1.
        count_from: Steps counted before the first; 1 counts as SuperGradients does.
        per_step: By how much a step counts: SuperGradients counts batches, of which
            ``batch_accumulate`` make a step.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A value out of its range.

    Source:
        "threshold" of SuperGradients' ema_params; TensorFlow's ExponentialMovingAverage with
        ``num_updates``, in EfficientNet's training.

    Example:
        >>> [round(0.999 * factor, 4) for factor in ema_threshold(0.999)([0, 1, 2, 8989, 99999])]
        [0.1, 0.1818, 0.25, 0.999, 0.999]
    """
    decay = _decay(decay)
    ahead = whole("count_from", count_from, 0) * whole("per_step", per_step, 1)
    # 1 - 9 / (10 + n), which is a curve in t of its own length.
    start = (1 + ahead) / (10 + ahead)
    return _until_one(
        Segment(
            Kind.POW,
            PastEnd.CONTINUE,
            length=(10 + ahead) / per_step,
            a=start / decay,
            b=1 / decay,
            p=1.0,
        )
    )


def ema_ramp(steps: float, beta: float = 15.0, *, count_from: int = 0) -> Schedule:
    """Let the decay of averages approach its base as a charge does: ``1 - exp(-beta n / steps)``.

    With ``n = t + count_from``; the first three factors with ``steps=10, beta=10`` are 0, 0.6321
    and 0.8647.

    Args:
        steps: Steps of the whole training, above 0; may be fractional.
        beta: How fast, above 0: with 15, 95 % after a fifth of the training.
        count_from: Steps counted before the first; 1 counts as SuperGradients does.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A value out of its range.

    Source:
        "exp" of SuperGradients' ema_params.

    Example:
        >>> [round(factor, 4) for factor in ema_ramp(10, beta=10)([0, 1, 2, 10])]
        [0.0, 0.6321, 0.8647, 1.0]
    """
    length = finite("steps", steps, 0.0, exclusive=True)
    rate = finite("beta", beta, 0.0, exclusive=True)
    shift = float(whole("count_from", count_from, 0))
    ramp = Segment(Kind.EXP, PastEnd.CONTINUE, shift=shift, length=length, a=0.0, b=1.0, p=-rate)
    return Schedule((ramp,))


def ema_power(
    decay: float, gamma: float = 1.0, power: float = 2 / 3, *, after: int = 0
) -> Schedule:
    """Let averages have the decay ``min(decay, 1 - (1 + n / gamma) ** -power)``.

    With ``n = max(t - after, 0)``, divided by ``decay``. Until ``after`` the decay is 0: averages
    are copies.

    Args:
        decay: What ``ema_decay`` is, above 0 and at most 1: from there on the factor is 1.
        gamma: Steps that the rise takes, above 0.
        power: Its exponent, above 0: 2/3 for a million steps or more, 3/4 for fewer.
        after: timm's update_after_step.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A value out of its range.

    Source:
        ``timm.utils.ModelEmaV3`` with ``use_warmup=True``, given the number of updates as timm's
        training script gives it: ``ModelEmaV3.update(model, step=t + 1)``.

    Example:
        >>> [round(0.999 * factor, 4) for factor in ema_power(0.999)([0, 1, 2, 99999])]
        [0.0, 0.37, 0.5193, 0.999]
    """
    decay = _decay(decay)
    begin = whole("after", after, 0)
    rise = Segment(
        Kind.POW,
        PastEnd.CONTINUE,
        start=begin,
        origin=begin,
        length=finite("gamma", gamma, 0.0, exclusive=True),
        a=0.0,
        b=1 / decay,
        p=finite("power", power, 0.0, exclusive=True),
    )
    copies = (Segment.constant(0.0),) if begin else ()
    return _until_one(rise, copies)


def _decay(value: float) -> float:
    return finite("decay", value, 0.0, 1.0, exclusive=True)


def _until_one(rise: Segment, before: tuple[Segment, ...] = ()) -> Schedule:
    """Return a rising curve that becomes 1 at the first step at which it would be above."""
    low, high = rise.start - 1, rise.start + FURTHEST
    if rise.value_at(high) < 1.0:
        return Schedule((*before, rise))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rise.value_at(middle) >= 1.0 else (middle, high)
    end = Segment.constant(1.0, start=high)
    return Schedule((*before, end) if high == rise.start else (*before, rise, end))
