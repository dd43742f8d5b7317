"""The learning rate on the device: ``csrc/math/schedule.h`` in Triton.

Closed form in float64 from the int64 step. Tables are read at addresses: those of csrc/launch,
whose layout the extension tells.
"""

import triton
import triton.language as tl

from fused_warmup import _C


def places(table, *fields):
    """Return where fields of a table's rows lie, in bytes; or what named codes stand for."""
    return tuple(_C.TABLES[table][field] for field in fields)


SEGMENTS, N_SEGMENTS, VALUES = map(
    tl.constexpr, places("Schedule", "segments", "n_segments", "values")
)
SEGMENT_SIZE, KIND, PAST_END, START, ORIGIN, STAIR, PERIOD, TABLE_OFFSET, TABLE_SIZE = map(
    tl.constexpr,
    places(
        "Segment",
        *("size", "kind", "past_end", "start", "origin", "stair", "period"),
        *("table_offset", "table_size"),
    ),
)
SHIFT, LENGTH, A, B, P, K, M, LOG_CYCLE_GAIN = map(
    tl.constexpr, places("Segment", "shift", "length", "a", "b", "p", "k", "m", "log_cycle_gain")
)
POLY, COS, EXP, POW, TABLE = map(tl.constexpr, places("Kind", "POLY", "COS", "EXP", "POW", "TABLE"))
HOLD = tl.constexpr(_C.TABLES["constants"]["HOLD"])
PI = tl.constexpr(3.14159265358979323846)
INT64_MAX = tl.constexpr(2**63 - 1)


@triton.jit
def load_int32(at):
    """Return the int32 that lies at an address."""
    return tl.load(at.to(tl.pointer_type(tl.int32)))


@triton.jit
def load_int64(at):
    """Return the int64, or the address, that lies at an address."""
    return tl.load(at.to(tl.pointer_type(tl.int64)))


@triton.jit
def load_double(at):
    """Return the float64 that lies at an address."""
    return tl.load(at.to(tl.pointer_type(tl.float64)))


@triton.jit
def floor_div(n, d):
    """Divide and round down; Triton's own ``//`` truncates, as C's does."""
    return n // d - (n % d < 0).to(tl.int64)


@triton.jit
def next_count(t):
    """Return the count after one more step; at its end it stays."""
    return t + (t < INT64_MAX).to(tl.int64)


@triton.jit
def cos_half_waves(n):
    """Return ``cos(pi n)``, whole waves taken off first: that is exact."""
    n = tl.abs(n)
    return tl.cos((n - 2.0 * tl.floor(n * 0.5)) * PI)


@triton.jit
def real_pow(x, e):
    """Return ``x ** e``: exact for an exponent of 1, and 0 where it would be complex.

    By exp and log, which every target has; a double's pow is a library call under another name on
    each. At 0 and 1, a curve's ends, they are exact.
    """
    power = x
    if e != 1.0:
        magnitude = tl.exp(e * tl.log(tl.abs(x)))
        odd = tl.floor(e * 0.5) * 2.0 != e
        below_zero = tl.where(e == tl.floor(e), tl.where(odd, -magnitude, magnitude), 0.0)
        power = tl.where(e == 0.0, 1.0, tl.where(x < 0.0, below_zero, magnitude))
    return power


@triton.jit
def segment_factor(segment, values, t):
    """Return a segment's value at step ``t``; its table is among ``values``."""
    kind = load_int64(segment + KIND)
    # Counts are taken up to 2**62 and origins down to -2**61, so that this does not overflow.
    n = t - load_int64(segment + ORIGIN)
    period = load_int64(segment + PERIOD)
    stair = load_int64(segment + STAIR)
    cycle = tl.full((), 0, tl.int64)
    if period > 0:
        cycle = floor_div(n, period)
        n -= cycle * period
    if stair > 1:
        n = floor_div(n, stair) * stair
    gain = tl.full((), 1.0, tl.float64)
    log_cycle_gain = load_double(segment + LOG_CYCLE_GAIN)
    if log_cycle_gain != 0.0:
        gain = tl.exp(log_cycle_gain * cycle.to(tl.float64))
    b = load_double(segment + B)

    if kind == TABLE:
        i = tl.minimum(tl.maximum(n, 0), load_int64(segment + TABLE_SIZE) - 1)
        f = load_double(values + (load_int64(segment + TABLE_OFFSET) + i) * 8)
        factor = b + (f - b) * gain
    else:
        x = (n.to(tl.float64) + load_double(segment + SHIFT)) / load_double(segment + LENGTH)
        if load_int64(segment + PAST_END) == HOLD:
            x = tl.where(x < 0.0, 0.0, tl.where(x > 1.0, 1.0, x))
        p = load_double(segment + P)
        if kind == EXP:
            f = tl.exp(p * x)
        else:
            # Each of the others is a power of something.
            base = 1.0 + x
            exponent = -p
            if kind != POW:
                y = real_pow(x, load_double(segment + K))
                base = 1.0 - y
                exponent = p
                if kind == COS:
                    base = (1.0 + cos_half_waves(load_double(segment + M) * y)) / 2.0
            f = real_pow(base, exponent)
        a = load_double(segment + A)
        factor = b
        if a != b:  # no amplitude, no curve: 0 times one that overflowed would be NaN
            factor = b + (a - b) * gain * f
    return factor


@triton.jit
def start_of(segment, end):
    """Return the first step that a segment rules; 0, as where a track begins, at the end."""
    start = (segment + START).to(tl.pointer_type(tl.int64))
    return tl.load(start, segment < end, other=0)


@triton.jit
def track_factor(schedule, there, first, t):
    """Return the factor of a track of the schedule at an address, and where the next one begins.

    A schedule has several tracks if it is a product. The first is at ``first`` = 0; what begins at
    0 is none. The factor is 1 if the schedule is not ``there``.

    Loops are ``while`` loops here: Triton 3.6's interpreter has no ``range`` under numpy >= 2.4
    (triton-lang/triton#9171).
    """
    factor = tl.full((), 1.0, tl.float64)
    following = tl.full((), 0, tl.int64)
    n_segments_ptr = (schedule + N_SEGMENTS).to(tl.pointer_type(tl.int64))
    n_segments = tl.load(n_segments_ptr, there, other=0)
    if n_segments > 0:
        segments = load_int64(schedule + SEGMENTS)
        end = segments + n_segments * SEGMENT_SIZE
        ruling = tl.where(first == 0, segments, first)
        at = ruling + SEGMENT_SIZE
        start = start_of(at, end)
        while start > 0:
            if start <= t:
                ruling = at
            at += SEGMENT_SIZE
            start = start_of(at, end)
        factor = segment_factor(ruling, load_int64(schedule + VALUES), t)
        following = tl.where(at < end, at, 0)
    return factor, following
