"""Cycles: schedules that start over."""

import math
from fractions import Fraction
from typing import Literal

from .checks import INT64_MAX, MAX_VALUES, at_most, finite, shown, steps_of, whole
from .schedule import Schedule
from .segment import Kind, Segment

MAX_CYCLES = 256
"""Most cycles of growing length that are spelt out, one segment each."""


def cosine_restarts(
    steps: int | None = None,
    mult: float = 1,
    end: float = 0.0,
    cycle_gain: float = 1.0,
    *,
    cycles: int | None = None,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Fall along half a cosine, again and again.

    In cycle ``i = 0, 1, ...`` of length ``T = steps * mult**i``, ``u`` steps after its start,
    ``end + (1 - end) * cycle_gain**i * (1 + cos(pi * u / T)) / 2``; the first three values with
    ``steps=2`` are 1, 0.5, 1. With a fractional ``mult`` a cycle may start between two steps.

    Args:
        steps: Length of the first cycle in steps.
        mult: Length of a cycle over that of the one before, at least 1.
        end: Factor the cycles fall towards, at least 0.
        cycle_gain: Amplitude above ``end`` over that of the cycle before, in (0, 1].
        cycles: Stop after this many cycles and stay at ``end``; None: endless.
        epochs: Length of the first cycle in epochs instead, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A value out of its range; so slow a growth that the cycles up to step 2**63
            would be more than 256.

    Source:
        Loshchilov & Hutter 2017, "SGDR" (arXiv:1608.03983), equation 5; torch's
        CosineAnnealingWarmRestarts (T_0, T_mult, eta_min / lr).

    Example:
        >>> [round(factor, 4) for factor in cosine_restarts(2, mult=2)(range(7))]
        [1.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 1.0]
        >>> cosine_restarts(2, cycles=2)(range(6))
        [1.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    length = steps_of(steps, epochs, steps_per_epoch)
    mult = finite("mult", mult, 1.0)
    end = finite("end", end, 0.0)
    gain = finite("cycle_gain", cycle_gain, 0.0, 1.0, exclusive=True)
    count = None if cycles is None else whole("cycles", cycles, 1)
    if mult == 1.0:
        wave = Segment(Kind.COS, period=length, length=length, b=end, log_cycle_gain=math.log(gain))
        if count is None:
            return Schedule((wave,))
        total = whole("cycles * steps", count * length, 1)
        return Schedule((wave, Segment.constant(end, start=total)), total)
    # Exact rationals: float starts would drift off the steps that torch restarts at.
    begin, duration, growth = Fraction(0), Fraction(length), Fraction(mult)
    waves: list[Segment] = []
    while math.ceil(begin) <= INT64_MAX and len(waves) != count:
        if len(waves) == MAX_CYCLES:
            raise ValueError(
                f"mult={mult} makes more than {MAX_CYCLES} cycles, got steps={length} and "
                f"cycles={cycles}: give fewer cycles, mult=1 or a larger mult"
            )
        first = math.ceil(begin)
        shift, height = float(first - begin), (1.0 - end) * gain ** len(waves)
        waves.append(
            Segment(
                Kind.COS,
                start=first,
                origin=first,
                shift=shift,
                length=float(duration),
                a=end + height,
                b=end,
            )
        )
        begin, duration = begin + duration, duration * growth
    total = math.ceil(begin)
    if count is None or total > INT64_MAX:
        return Schedule(tuple(waves))
    return Schedule((*waves, Segment.constant(end, start=total)), total)


def cyclic(
    steps_up: int | None = None,
    steps_down: int | None = None,
    low: float = 0.0,
    *,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: float = 1.0,
    epochs_up: float | None = None,
    epochs_down: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Rise from ``low`` to 1 and fall back in straight lines, again and again.

    ``low + (1 - low) * triangle(t) * amplitude``, where the amplitude is 1 (``"triangular"``),
    ``0.5 ** cycle`` (``"triangular2"``) or ``gamma ** t`` (``"exp_range"``); the first three
    values with ``steps_up=4`` are 0, 0.25, 0.5. The base learning rate is the highest, max_lr in
    torch. Held as a table of one cycle, 8 bytes a step. Endless; ``.lasting(steps)`` ends it. The
    momentum that torch's CyclicLR cycles the other way is `cyclic_momentum`.

    Args:
        steps_up: Steps from ``low`` to the peak.
        steps_down: Steps from the peak to ``low``; as many as up if no length down is given.
        low: Factor at the bottom, in [0, 1]: base_lr / max_lr.
        mode: How the amplitude changes.
        gamma: Decay of the amplitude per step in mode ``"exp_range"``, in (0, 1].
        epochs_up: The rise in epochs instead, may be fractional, rounded to the nearest step.
        epochs_down: The fall in epochs.
        steps_per_epoch: Steps per epoch, with ``epochs_up``.

    Raises:
        TypeError: Both lengths or none; a value of the wrong type.
        ValueError: A value out of its range; an unknown mode; a cycle of more than 4,194,304 steps.

    Source:
        Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186);
        torch's CyclicLR.

    Example:
        >>> cyclic(2, low=0.5)(range(6))
        [0.5, 0.75, 1.0, 0.75, 0.5, 0.75]
        >>> cyclic(1, 2, mode="triangular2")(range(6))
        [0.0, 1.0, 0.5, 0.0, 0.5, 0.25]
    """
    up, down = cycle_lengths(steps_up, steps_down, epochs_up, epochs_down, steps_per_epoch)
    return triangles(finite("low", low, 0.0, 1.0), 1.0, up, down, mode, gamma)


def cycle_lengths(
    steps_up: int | None,
    steps_down: int | None,
    epochs_up: float | None,
    epochs_down: float | None,
    steps_per_epoch: int | None,
) -> tuple[int, int]:
    """Return the steps of a rise and of a fall, which is as long if nothing is said of it."""
    up = steps_of(steps_up, epochs_up, steps_per_epoch, name="steps_up", in_epochs="epochs_up")
    if steps_down is None and epochs_down is None:
        return up, up
    down = steps_of(
        steps_down, epochs_down, steps_per_epoch, name="steps_down", in_epochs="epochs_down"
    )
    return up, down


def triangles(valley: float, peak: float, up: int, down: int, mode: str, gamma: float) -> Schedule:
    """Return `cyclic`'s curve between any two heights; the valley's stays, the peak's decays."""
    if mode not in ("triangular", "triangular2", "exp_range"):
        raise ValueError(
            f"mode must be 'triangular', 'triangular2' or 'exp_range', got {shown(mode)}: use "
            "one of these"
        )
    gamma = finite("gamma", gamma, 0.0, 1.0, exclusive=True)
    if gamma != 1.0 and mode != "exp_range":
        raise ValueError(
            f"gamma={gamma} has no meaning in mode {shown(mode)}: use mode='exp_range' or leave "
            "it out"
        )
    period = up + down
    at_most("values", period, MAX_VALUES)
    heights = [n / up if n <= up else (period - n) / down for n in range(period)]
    gain = math.log(0.5) if mode == "triangular2" else period * math.log(gamma)
    return Schedule(
        (
            Segment(
                Kind.TABLE,
                period=period,
                b=valley,
                log_cycle_gain=gain,
                values=tuple(
                    valley + (peak - valley) * h * gamma**n for n, h in enumerate(heights)
                ),
            ),
        )
    )
