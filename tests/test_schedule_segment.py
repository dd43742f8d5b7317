"""Segments: the formulas against exact arithmetic, the int64 clock, packing and plain data."""

import json
import math
import pickle
import struct
from dataclasses import FrozenInstanceError, fields, replace

import mpmath
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fused_warmup.schedules import Kind, PastEnd, Segment

FACTORS = st.floats(-4.0, 4.0)
U = 2.0**-53


@st.composite
def segments(draw, kinds=tuple(Kind)):
    """Any valid segment whose values stay within a few thousand over its first lengths."""
    kind = draw(st.sampled_from(kinds))
    start = draw(st.integers(0, 1000))
    period = draw(st.sampled_from([0, 0, 7, 100]))
    chosen = {
        "kind": kind,
        "past_end": draw(st.sampled_from(PastEnd)),
        "start": start,
        "origin": draw(st.integers(0, start)),
        "stair": draw(st.sampled_from([1, 1, 3, 10])),
        "period": period,
        "shift": draw(st.sampled_from([0.0, 0.25, 3.0])),
        "length": draw(st.sampled_from([1.0, 2.5, 40.0, 1000.0])),
        "a": draw(FACTORS),
        "b": draw(FACTORS),
        "p": draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5])),
        "k": draw(st.sampled_from([0.5, 1.0, 2.0])),
        "m": draw(st.sampled_from([1.0, 2.0, 0.5])),
        "log_cycle_gain": draw(st.floats(-1.0, 0.0)) if period else 0.0,
    }
    if kind is Kind.TABLE:
        chosen["values"] = tuple(draw(st.lists(FACTORS, min_size=1, max_size=9)))
    return Segment(**chosen)


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


@given(segments(), st.integers(0, 50))
def test_formula_in_exact_arithmetic(segment, ahead):
    t = segment.start + ahead
    wanted, rounding = exact(segment, t)
    assume(abs(wanted) < 1e300)
    assert abs(segment.value_at(t) - wanted) <= 2 * rounding


@pytest.mark.parametrize(
    ("segment", "values"),
    [
        (Segment(length=4), [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
        (Segment(length=4, past_end=PastEnd.CONTINUE), [1.0, 0.75, 0.5, 0.25, 0.0, -0.25]),
        (Segment(length=4, p=0.5, past_end=PastEnd.CONTINUE, origin=-3), [0.5, 0.0, 0.0]),
        (Segment(length=4, p=2.0), [1.0, 0.5625, 0.25, 0.0625, 0.0]),
        (Segment(length=4, k=2.0), [1.0, 0.9375, 0.75, 0.4375, 0.0]),
        (Segment(length=4, shift=0.5), [0.875, 0.625, 0.375, 0.125, 0.0]),
        (Segment(length=4, stair=2), [1.0, 1.0, 0.5, 0.5, 0.0]),
        (Segment(length=4, period=3), [1.0, 0.75, 0.5, 1.0, 0.75]),
        (Segment(Kind.COS, length=2), [1.0, 0.5, 0.0, 0.0]),
        (Segment(Kind.COS, PastEnd.CONTINUE, length=1), [1.0, 0.0, 1.0, 0.0]),
        (Segment(Kind.POW, PastEnd.CONTINUE, length=1), [1.0, 1 / 2, 1 / 3, 1 / 4]),
        (Segment(Kind.TABLE, values=(3.0, 2.0)), [3.0, 2.0, 2.0]),
        (Segment(Kind.TABLE, values=(3.0, 2.0), origin=1), [3.0, 3.0, 2.0]),
        (Segment.constant(0.1), [0.1] * 4),
        (Segment(Kind.EXP, PastEnd.CONTINUE, a=2.0, b=2.0, p=1e3, length=1), [2.0, 2.0, 2.0]),
    ],
)
def test_values_are_exact(segment, values):
    assert [segment.value_at(t) for t in range(len(values))] == values


def test_clock_is_exact_beyond_float_precision():
    t = 2**53 + 1  # no float64 holds it
    assert Segment(Kind.EXP, period=2, p=1.0).value_at(t) == pytest.approx(math.e, rel=1e-15)
    stairs = Segment(stair=3, period=6, length=6)
    start = 6 * (2**59 + 1)
    assert [stairs.value_at(start + u) for u in range(6)] == [1.0] * 3 + [0.5] * 3
    shifted = Segment(length=4, start=2**62 + 1, origin=2**62 + 1)
    assert [shifted.value_at(2**62 + 1 + u) for u in range(3)] == [1.0, 0.75, 0.5]


def test_overflow_is_infinite_as_in_c():
    assert Segment(Kind.EXP, PastEnd.CONTINUE, p=1.0).value_at(10_000) == math.inf
    odd = Segment(past_end=PastEnd.CONTINUE, p=101.0)
    assert odd.value_at(2**62) == -math.inf
    assert replace(odd, p=100.0).value_at(2**62) == math.inf


@given(segments())
def test_plain_data_and_pickle_round_trip(segment):
    plain = segment.to_dict()
    assert Segment.from_dict(plain) == segment
    assert Segment.from_dict(json.loads(json.dumps(plain))) == segment
    assert pickle.loads(pickle.dumps(segment)) == segment
    assert hash(Segment.from_dict(plain)) == hash(segment)


def test_plain_data_shows_only_what_differs():
    assert Segment(Kind.COS, PastEnd.CONTINUE, length=10).to_dict() == {
        "kind": "cos",
        "past_end": "continue",
        "length": 10.0,
    }
    assert repr(Segment(Kind.TABLE, values=(1.0, 2.0))) == "Segment(TABLE, values=<2 floats>)"


@given(segments(), st.integers(0, 10_000))
def test_pack_is_the_fields_in_order(segment, offset):
    record = segment.pack(offset)
    assert len(record) == 128
    numbers = struct.unpack("<8q8d", record)
    names = [field.name for field in fields(segment) if field.name != "values"]
    table = (offset if segment.values else 0, len(segment.values))
    wanted = [getattr(segment, name) for name in names]
    assert list(numbers) == [*wanted[:6], *table, *wanted[6:]]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"start": -1}, ValueError, r"start must lie in \[0, .*got -1"),
        ({"start": 2**63}, ValueError, "start must lie in"),
        ({"start": True}, TypeError, "start must be an integer, got True"),
        ({"start": 1.0}, TypeError, "start must be an integer, got 1.0 of type float"),
        ({"stair": 0}, ValueError, "stair must lie in"),
        ({"period": -1}, ValueError, "period must lie in"),
        ({"length": 0}, ValueError, "length must be a finite number above 0, got 0"),
        ({"length": math.inf}, ValueError, "length must be a finite number"),
        ({"length": 10**400}, ValueError, "length must be a finite number"),
        ({"a": math.nan}, ValueError, "a must be a finite number, got nan"),
        ({"b": "1"}, TypeError, "b must be a real number, got '1'"),
        ({"p": False}, TypeError, "p must be a real number, got False"),
        ({"p": -1.0}, ValueError, "p must be a finite number of at least 0"),
        ({"k": 0.0}, ValueError, "k must be a finite number above 0"),
        ({"kind": PastEnd.CONTINUE}, TypeError, "kind must be a Kind, got <PastEnd.CONTINUE"),
        ({"past_end": 1}, TypeError, "past_end must be a PastEnd, got 1"),
        ({"values": (1.0,)}, ValueError, "POLY segment got 1 values"),
        ({"kind": Kind.TABLE}, ValueError, "TABLE segment got 0 values"),
        ({"kind": Kind.TABLE, "values": (1.0, math.nan)}, ValueError, r"values\[1\] must be"),
        ({"log_cycle_gain": 1.0}, ValueError, "log_cycle_gain=1.0 needs cycles"),
        (
            {"kind": Kind.POW, "past_end": PastEnd.CONTINUE, "shift": -1.0},
            ValueError,
            "infinite at one length before its origin",
        ),
    ],
)
def test_bad_fields_are_named(bad, error, message):
    with pytest.raises(error, match=message):
        Segment(**bad)


def test_bad_plain_data_is_named():
    with pytest.raises(ValueError, match=r"unknown segment fields \['lenght'\]"):
        Segment.from_dict({"lenght": 3})
    with pytest.raises(ValueError, match=r"kind must be one of \['poly', .*got 'sine'"):
        Segment.from_dict({"kind": "sine"})
    with pytest.raises(ValueError, match="past_end must be one of"):
        Segment.from_dict({"past_end": 1})


def test_segment_is_immutable():
    with pytest.raises(FrozenInstanceError):
        Segment().length = 2.0
