"""Segments: the formulas against exact arithmetic, the int64 clock, packing and plain data."""

import json
import math
import pickle
import struct
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.oracle import exact
from support.strategies import segments

from fused_warmup.schedules import Kind, PastEnd, Segment


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
