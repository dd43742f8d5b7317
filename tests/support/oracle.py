"""A segment's formula in exact arithmetic, beside which all evaluations of schedules are tested."""

import mpmath

from fused_warmup.schedules import Kind, PastEnd, Segment

U = 2.0**-53


def power(base, exponent):
    """A power as a schedule means it: 0 where it would be complex."""
    if base < 0 and exponent != mpmath.floor(exponent):
        return mpmath.mpf(0)
    return base**exponent


def exact(segment: Segment, t: int) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The documented formula in 50 digits, written without regard to the code, and its rounding.

    The second is the most by which doubles may miss it, to first order: every operation is off by
    at most U of its result, a library's function by twice that, and what a formula makes of the
    error of a number is found by moving that number.
    """
    with mpmath.workdps(50):
        n, gain, turns = t - segment.origin, mpmath.mpf(1), 0
        if segment.period:
            turns = mpmath.mpf(segment.log_cycle_gain) * (n // segment.period)
            gain = mpmath.exp(turns)
            n %= segment.period
        n -= n % segment.stair
        a, b, p, k, m = (mpmath.mpf(getattr(segment, name)) for name in "abpkm")
        gain_off = (abs(turns) + 2) * U if turns else 0
        if segment.kind is Kind.TABLE:
            value = mpmath.mpf(segment.values[max(0, min(n, len(segment.values) - 1))])
            f, f_off = mpmath.mpf(1), 0
            a = value
        else:
            x = (n + mpmath.mpf(segment.shift)) / mpmath.mpf(segment.length)
            if segment.past_end is PastEnd.HOLD:
                x = max(mpmath.mpf(0), min(mpmath.mpf(1), x))
            f, f_off = shape(segment.kind, x, p, k, m)
        wanted = b + (a - b) * gain * f
        off = abs(a - b) * gain * (f_off + abs(f) * (gain_off + 3 * U)) + abs(wanted) * U
        return wanted, off + 8 * 2.0**-1074


def shape(kind, x, p, k, m):
    """A formula's value between 0 and 1, or beyond, and how far off a double may be."""
    if kind is Kind.EXP:
        f = mpmath.exp(p * x)
        return f, f * (3 * p * abs(x) + 2) * U
    if kind is Kind.POW:
        f = (1 + x) ** -p
        return f, f * (3 * p + 2) * U
    y = power(x, k)
    y_off = abs(y) * (2 * k + 2) * U if x not in (0, 1) else 0
    if kind is Kind.POLY:
        base = 1 - y
        base_off = y_off + abs(base) * U
    else:
        # An angle is rounded as a number of half waves, before whole waves are taken off it.
        half_waves = abs(m * y)
        angle = mpmath.pi * (half_waves % 2)
        angle_off = mpmath.pi * (abs(m) * y_off + (half_waves + 4) * U)
        base = (1 + mpmath.cos(angle)) / 2
        base_off = abs(mpmath.sin(angle)) * angle_off / 2 + angle_off**2 / 4 + 2 * U
        if half_waves % 2 == 1:
            base_off = angle_off**2 / 4
    f = power(base, p)
    around = [abs(power(base + off, p) - f) for off in (base_off, -base_off) if off]
    return f, max(around, default=0) + 2 * abs(f) * U
