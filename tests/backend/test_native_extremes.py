"""The ends of int64 and of float64: csrc/math/schedule.h, its Python twin and the count itself."""

import contextlib
import math
import struct

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support import models, nothing_moves, train
from test_native_schedule import assert_twins

from fused_warmup import _C, SGD, Schedule
from fused_warmup._step.counters import MAX_STEPS, Counters
from fused_warmup.schedules import Kind, PastEnd, Segment, linear_warmup
from fused_warmup.schedules.signs import check_factors

LAST = 2**63 - 1
FAR = 2**62
EDGES = [0, 1, 2, 7, 2**24, 2**53 + 1, FAR - 1, FAR, FAR + 1, LAST - 7, LAST - 1, LAST]
STEPS = st.one_of(st.sampled_from(EDGES), st.integers(0, LAST))
WHOLE = st.one_of(STEPS, STEPS.map(lambda n: -n), st.just(-(2**63)))
REAL = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def anything(draw):
    """A segment with any numbers that a Segment takes."""
    kind = draw(st.sampled_from(Kind))
    period = draw(WHOLE) if draw(st.booleans()) else 0
    fields = {name: draw(REAL) for name in ("shift", "length", "a", "b", "p", "k", "m")}
    fields |= {name: draw(WHOLE) for name in ("start", "origin", "stair")}
    if draw(st.booleans()):  # else hardly ever is all of it in range
        fields |= {"start": abs(fields["start"]) % 2**63, "p": abs(fields["p"])}
        fields |= {"length": abs(fields["length"]) or 1.0, "k": abs(fields["k"]) or 1.0}
        fields |= {"stair": draw(st.sampled_from([1, 2, 7, 2**53 + 1, FAR - 1, FAR]))}
        fields |= {"origin": draw(st.integers(-FAR // 2, min(fields["start"] + FAR, LAST)))}
        period = abs(period) % 2**63
    try:
        return Segment(
            kind,
            draw(st.sampled_from(PastEnd)),
            period=period,
            log_cycle_gain=draw(REAL) if period else 0.0,
            values=draw(st.lists(REAL, min_size=1, max_size=3)) if kind is Kind.TABLE else (),
            **fields,
        )
    except ValueError:
        assume(False)


@given(anything(), st.lists(STEPS, min_size=1, max_size=6))
@example(Segment(origin=-FAR // 2, length=3.0), [0, FAR - 1, FAR, LAST])
@example(Segment(origin=FAR, stair=FAR, past_end=PastEnd.CONTINUE), [0, 1, FAR, LAST])
@example(Segment(origin=FAR - 1, stair=FAR, past_end=PastEnd.CONTINUE), [0, 1, FAR, LAST])
@example(Segment(start=LAST, origin=LAST, stair=7), [LAST])
@example(Segment(origin=-FAR // 2, period=LAST, length=1e19), [0, FAR, LAST])
@example(Segment(origin=-7, period=3, stair=FAR, length=2.0), [0, 1, 2, LAST])
@example(Segment(Kind.TABLE, values=(1.0, 0.5), origin=-FAR // 2, period=2), [LAST - 1, LAST])
@example(Segment(Kind.COS, PastEnd.CONTINUE, length=1e-280), [1, LAST])
@example(Segment(Kind.COS, PastEnd.CONTINUE, length=1.0, m=1e289), [1, LAST])
@example(Segment(Kind.POW, PastEnd.CONTINUE, length=1e-308, p=1e308), [1, LAST])
@example(Segment(past_end=PastEnd.CONTINUE, length=5e-324, p=3.0), [0, 1, LAST])
@example(Segment(a=1.7e308, b=-1.7e308), [0, 1])
def test_whatever_a_segment_takes(segment, steps) -> None:
    assert_twins((segment,), [t for t in steps if t >= segment.start] or [segment.start])
    with contextlib.suppress(ValueError):  # it may be below 0; nothing else may be wrong
        check_factors(segment, LAST)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"origin": -(2**63)}, "origin must lie in [-2305843009213693952, 4611686018427387904]"),
        ({"origin": -FAR // 2 - 1}, "origin must lie in"),
        ({"origin": FAR + 1}, "origin must lie in"),
        ({"origin": LAST, "start": FAR - 2}, "origin must lie in"),
        ({"origin": 2**63, "start": LAST}, "origin must lie in"),
        ({"stair": FAR + 1}, "stair must lie in [1, 4611686018427387904]"),
        ({"stair": LAST}, "stair must lie in"),
        ({"start": 2**63}, "start must lie in"),
        ({"period": 2**63}, "period must lie in"),
        ({"period": 10**5000}, "period must lie in [0, 9223372036854775807], got a huge int"),
        ({"kind": Kind.COS, "past_end": PastEnd.CONTINUE, "m": 1e308}, "angle must stay finite"),
        (
            {"kind": Kind.COS, "past_end": PastEnd.CONTINUE, "length": 1e-300},
            "angle must stay finite",
        ),
        ({"kind": Kind.COS, "past_end": PastEnd.CONTINUE, "k": 17.0}, "angle must stay finite"),
        (
            {"kind": Kind.COS, "past_end": PastEnd.CONTINUE, "shift": -1e308, "k": 2.0},
            "angle must stay finite",
        ),
    ],
)
def test_what_a_segment_does_not_take(fields, words) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        Segment(**fields)
    assert words in str(caught.value)
    plain = {k: v.name.lower() if k in ("kind", "past_end") else v for k, v in fields.items()}
    opt = SGD(models((2,)), lr=1.0)
    with pytest.raises(ValueError, match="must"):
        opt.add_param_group(
            {"params": models((3,)), "schedule": {"segments": [plain], "steps": None}}
        )


def test_a_large_angle_is_not_rounded() -> None:
    """Whole waves are taken off before the angle is: cos(pi n) is 1 and -1 to the end of int64."""
    wave = Segment(Kind.COS, PastEnd.CONTINUE, length=1.0)
    for n in (10**6, 10**12 + 1, 2**53 - 1, 2**53):
        assert wave.value_at(n) == (n + 1) % 2
    assert_twins((wave,), [10**6, 10**12 + 1, 2**53 - 1, LAST])
    quarter = Segment(Kind.COS, PastEnd.CONTINUE, length=2.0)
    assert quarter.value_at(2**50 + 1) == quarter.value_at(1)


# -- the count's end -----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_count_at_its_end_stays(backend) -> None:
    """A wrap would begin the schedule anew, at a step before the first.

    No load and no setter takes a count beyond 2**62: only writing into the tensor comes here.
    """
    stairs = Segment(Kind.TABLE, period=5, values=(0.1, 0.2, 0.3, 0.4, 0.5))
    p = models((3,))
    opt = SGD(p, lr=1.0, schedule=Schedule((stairs,)), backend=backend)
    opt.state[p[0]]["step"].fill_(LAST - 2)
    for t in (LAST - 2, LAST - 1, LAST, LAST):
        assert opt.steps_applied == t
        train(opt, 1)
        assert opt.get_last_lr() == [stairs.values[t % 5]]
    assert opt.steps_applied == LAST


def test_counters_end_there_too() -> None:
    counters = Counters()
    counters.of(torch.device("cpu")).fill_(LAST - 1)
    for _ in range(3):
        counters.advance()
        assert counters.value() == LAST


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_highest_count_that_is_taken(backend) -> None:
    opt = SGD(models((3,)), lr=1.0, schedule=linear_warmup(4), backend=backend)
    opt.steps_applied = MAX_STEPS
    train(opt, 2)
    assert (opt.steps_applied, opt.get_last_lr()) == (MAX_STEPS + 2, [1.0])
    for count in (MAX_STEPS + 1, 2**63, 2**64, 10**30, -1):
        with nothing_moves(opt), pytest.raises(ValueError, match="steps_applied"):
            opt.steps_applied = count


def test_a_count_that_was_written_below_zero_counts_as_zero() -> None:
    for count in (-1, -(2**63)):
        far = Segment(origin=FAR, length=1.0, past_end=PastEnd.CONTINUE, p=2.0)
        for segment in (far, Segment(Kind.TABLE, values=(0.5, 0.25)), Segment(length=4.0)):
            natives = _C.schedule_factors(*Schedule((segment,)).pack(), [count])
            assert natives == [segment.value_at(0)]


# -- what the private module is given ------------------------------------------------------------


def packed(**fields) -> bytes:
    names = ("kind", "past_end", "start", "origin", "stair", "period", "offset", "size")
    whole = [fields.get(name, {"stair": 1}.get(name, 0)) for name in names]
    return struct.pack("<8q8d", *whole, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("records", "values", "words"),
    [
        (packed()[:-1], [], "records of 128 bytes, got 127 bytes"),
        (packed() + b"\0", [], "got 129 bytes"),
        (b"\0", [], "got 1 bytes"),
        (packed(kind=5), [], "segment 0 holds"),
        (packed(kind=-1), [], "segment 0 holds"),
        (packed() + packed(kind=4, size=1), [], "segment 1 holds"),
        (packed(kind=4, size=0), [1.0], "segment 0 holds"),
        (packed(kind=4, size=3), [1.0, 2.0], "outside of the 2 values"),
        (packed(kind=4, size=1, offset=2), [1.0, 2.0], "outside of the 2 values"),
        (packed(kind=4, size=1, offset=-1), [1.0, 2.0], "outside of the 2 values"),
        (packed(kind=4, size=LAST, offset=LAST), [1.0, 2.0], "outside of the 2 values"),
        (packed(kind=4, size=1, offset=2**61), [1.0, 2.0], "outside of the 2 values"),
        (packed(stair=0), [], "out of its range"),
        (packed(stair=FAR + 1), [], "out of its range"),
        (packed(period=-1), [], "out of its range"),
        (packed(start=-1), [], "out of its range"),
        (packed(origin=-FAR // 2 - 1), [], "out of its range"),
        (packed(origin=FAR + 1), [], "out of its range"),
    ],
)
def test_bytes_that_no_schedule_packs_are_refused(records, values, words) -> None:
    with pytest.raises(ValueError, match=r"Schedule\.pack") as caught:
        _C.schedule_factors(records, values, [0])
    assert words in str(caught.value)
    p, t, lr = torch.zeros(2), torch.zeros((), dtype=torch.int64), torch.zeros(1).double()
    with pytest.raises(ValueError, match=r"Schedule\.pack"):
        _C.CpuPlan("DEFAULT", [p], [None], [None], [0], [(records, values)], [0], [-1], t, lr)


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("group_of", [1]),
        ("group_of", [-1]),
        ("group_of", []),
        ("group_of", [0, 0]),
        ("schedule_of", [1]),
        ("schedule_of", [-2]),
        ("momentum_schedule_of", [1]),
        ("momentum_schedule_of", []),
        ("momentum_schedule_of", [0, 0]),
    ],
)
def test_indices_of_nothing_are_refused(name, indices) -> None:
    t, lr = torch.zeros((), dtype=torch.int64), torch.zeros(1, dtype=torch.float64)
    given_ = {
        "params": [torch.zeros(2)],
        "momentum_buffers": [None],
        "first_steps": [None],
        "group_of": [0],
        "schedules": [Schedule((Segment(),)).pack()],
        "schedule_of": [0],
        "momentum_schedule_of": [-1],
        "t": t,
        "lr": lr,
    }
    _C.CpuPlan(capability="DEFAULT", **given_)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        _C.CpuPlan(capability="DEFAULT", **given_ | {name: indices})
    for short in ("momentum_buffers", "first_steps"):
        with pytest.raises(IndexError):
            _C.CpuPlan(capability="DEFAULT", **given_ | {short: []})


def test_bytes_in_range_are_taken() -> None:
    assert _C.schedule_factors(packed(kind=4, size=1, offset=1), [1.0, 2.0], [0]) == [2.0]
    assert math.isclose(_C.schedule_factors(packed(), [], [0])[0], 1.0)
