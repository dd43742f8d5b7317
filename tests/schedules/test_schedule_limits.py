"""What would take minutes or gigabytes is refused at once, in one sentence with the limit."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import torch
from support import models, nothing_moves

from fused_warmup import SGD, large_minibatch
from fused_warmup import schedules as s
from fused_warmup.schedules import Kind, PastEnd, Schedule, Segment, checks

HUGE = 10**12
VALUES, SEGMENTS = checks.MAX_VALUES, checks.MAX_SEGMENTS
PAIR = s.table([1.0, 0.5], past_end="repeat")


def plain(**fields):
    return {"segments": [fields], "steps": None}


TOO_MANY_VALUES = {
    "cyclic": lambda: s.cyclic(10**9),
    "cyclic up to int64": lambda: s.cyclic(2**62, 2**62),
    "cyclic one beyond": lambda: s.cyclic(VALUES, 1),
    "cyclic in epochs": lambda: s.cyclic(epochs_up=1e6, steps_per_epoch=10**6),
    "cyclic_momentum": lambda: s.cyclic_momentum(10**9, mode="exp_range", gamma=0.5),
    "from_callable": lambda: s.from_callable(lambda t: 1.0, HUGE),
    "from_callable in epochs": lambda: s.from_callable(
        lambda t: 1.0, epochs=1e6, steps_per_epoch=10**6
    ),
    "table of a range": lambda: s.table(range(HUGE)),
    "table beyond len": lambda: s.table(range(10**30)),
    "table of an array": lambda: s.table(np.broadcast_to(np.float64(1), (HUGE,))),
    "table of a tensor": lambda: s.table(torch.ones(()).expand(HUGE)),
    "a segment": lambda: Segment(Kind.TABLE, values=range(HUGE)),
    "plain data": lambda: Schedule.from_dict(plain(kind="table", values=range(HUGE))),
    "stretched": lambda: PAIR.stretched(HUGE),
    "stretched, cyclic": lambda: s.cyclic(1000).stretched(10**6),
    "stretched, late": lambda: Schedule(
        (Segment(Kind.TABLE, values=(1.0, 0.5), origin=3),)
    ).stretched(HUGE),
}
TOO_MANY_SEGMENTS = {
    "multi_step": lambda: s.multi_step(range(HUGE)),
    "multi_step in epochs": lambda: s.multi_step(epochs=range(10**30), steps_per_epoch=2),
    "multi_step for ever": lambda: s.multi_step(itertools.count()),
    "large_minibatch": lambda: large_minibatch(
        512, steps_per_epoch=10, milestones=range(1, HUGE), epochs=HUGE
    ),
    "join_schedules": lambda: s.join_schedules([s.linear(1)], range(HUGE)),
    "join_schedules for ever": lambda: s.join_schedules(itertools.repeat(s.linear(1)), []),
    "a schedule for ever": lambda: Schedule(itertools.repeat(Segment())),
    "plain data": lambda: Schedule.from_dict(
        {"segments": [{"kind": "poly"}] * (SEGMENTS + 1), "steps": None}
    ),
}
OTHERS = {
    "an endless table": (lambda: s.table(itertools.repeat(1.0)), f"at most {VALUES}"),
    "cosine_restarts": (lambda: s.cosine_restarts(10, 1.0001), "more than 256 cycles"),
    "cosine_restarts, many": (lambda: s.cosine_restarts(10, cycles=2**62), "cycles \\* steps must"),
    "lasting": (lambda: s.linear(4).lasting(10**30), "steps must lie in"),
    "linear": (lambda: s.linear(10**5000), "steps must lie in .* got a huge int"),
    "epochs": (lambda: s.linear(epochs=1e300, steps_per_epoch=10**18), "steps must lie in"),
    "stretched": (lambda: s.step(7).stretched(2**62), "a clock must stay within 2\\*\\*62"),
    "stretched origin": (
        lambda: Schedule((Segment(origin=-3),)).stretched(2**61),
        "a clock must stay within 2\\*\\*62",
    ),
    "stretched length": (lambda: s.linear(4).stretched(2**62), "steps must lie in"),
    "constant": (lambda: s.constant(10**400), "value must be a finite number"),
    "scaled": (lambda: s.linear(4).scaled(10**5000), "factor must be .* got a huge int"),
    "echo": (lambda: s.constant([[0] * 10**5] * 10**5), "value must be a real number"),
    "echo of a name": (lambda: s.cyclic(3, mode="x" * 10**6), "mode must be"),
    "echo of text": (lambda: Schedule.from_dict("x" * 10**6), "a schedule must be"),
}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        *((build, f"must be at most {VALUES}, got") for build in TOO_MANY_VALUES.values()),
        *((build, f"must be at most {SEGMENTS}, got") for build in TOO_MANY_SEGMENTS.values()),
        *OTHERS.values(),
    ],
    ids=[*TOO_MANY_VALUES, *TOO_MANY_SEGMENTS, *OTHERS],
)
def test_is_refused_before_it_is_made(build, words) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, TypeError), match=words) as caught:
            build()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)
    assert peak < 2**26  # of an iterator, as many as there might be have to be counted


def test_what_a_group_is_given_is_refused_before_anything_moves() -> None:
    opt = SGD(models((3,)), lr=1.0, schedule=s.linear(4))
    text = '{"segments": [' + ", ".join(['{"kind": "poly"}'] * (SEGMENTS + 1)) + '], "steps": null}'
    for bad in (plain(kind="table", values=range(HUGE)), text, "[" * 10**6, "9" * 10**4):
        with nothing_moves(opt), pytest.raises((ValueError, TypeError)) as caught:
            opt.add_param_group({"params": models((2,)), "schedule": bad})
        assert len(str(caught.value)) < 600


def test_the_limits_themselves_are_taken() -> None:
    checks.at_most("values", VALUES, VALUES)
    with pytest.raises(ValueError, match="got 4194305"):
        checks.at_most("values", VALUES + 1, VALUES)
    many = Schedule(tuple(Segment.constant(1.0, start) for start in range(SEGMENTS)))
    assert many(SEGMENTS) == 1.0
    with pytest.raises(ValueError, match=f"must be at most {SEGMENTS}, got {SEGMENTS + 1}"):
        many.lasting(SEGMENTS).then(s.linear(3))
    assert len(s.multi_step(range(1, SEGMENTS)).segments) == SEGMENTS
    assert s.linear(4).stretched(2**60)(2**61) == 0.5


def test_a_long_table_is_stretched_as_a_table() -> None:
    values = np.linspace(0.0, 1.0, SEGMENTS + 1)
    stretched = s.table(values).stretched(3)
    assert len(stretched.segments) == 1
    assert stretched([0, 2, 3, 3 * SEGMENTS + 2]) == [0.0, 0.0, values[1], 1.0]


def test_a_schedule_of_many_tables_is_bounded_as_one() -> None:
    half = Segment(Kind.TABLE, values=np.ones(VALUES // 2 + 1))
    later = Segment(Kind.TABLE, start=9, origin=9, values=np.ones(VALUES // 2))
    with pytest.raises(ValueError, match=f"must be at most {VALUES}, got {VALUES + 1}"):
        Schedule((half, later))


def test_many_parts_are_joined_in_one_pass() -> None:
    parts = [s.linear(2)] * 5000
    joined = s.join_schedules(parts, range(2, 10_000, 2))
    assert joined.steps == 10_000
    assert len(joined.segments) == 5000
    assert joined([0, 1, 2, 9_999, 10_000]) == [1.0, 0.5, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("kind", Kind)
def test_the_longest_clocks(kind) -> None:
    """Lengths at the end of int64 are no trouble: only what is spelt out is bounded."""
    values = (1.0, 0.5) if kind is Kind.TABLE else ()
    for past_end in PastEnd:
        p = -1.0 if kind is Kind.EXP else 1.0
        b = 0.0 if past_end is PastEnd.HOLD or kind is not Kind.POLY else 1.0
        schedule = Schedule((Segment(kind, past_end, length=2**63, p=p, b=b, values=values),))
        assert all(0.0 <= factor <= 1.0 for factor in schedule([0, 1, 2**62, 2**63 - 1]))
        assert math.isclose(schedule(1), 0.5 if values else 1.0)
