"""csrc/math/schedule.h against its Python twin, and the rate that a step really uses."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from support import parameter
from support.strategies import BUILT, FINITE, segments

from fused_warmup import _C, SGD, Schedule, linear_warmup
from fused_warmup.schedules import (
    Kind,
    PastEnd,
    Segment,
    constant,
    cosine,
    cosine_restarts,
    multi_step,
)

STEPS = st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**62)), min_size=1, max_size=8)


def natives_of(segments: Sequence[Segment], steps: Sequence[int]) -> list[float]:
    """What the kernels make of segments, those below 0 too, which no Schedule takes."""
    records, values = b"", []
    for segment in segments:
        records += segment.pack(len(values))
        values += segment.values
    return _C.schedule_factors(records, values, steps)


def assert_twins(segments: Sequence[Segment], steps: list[int]) -> None:
    for t, native in zip(steps, natives_of(segments, steps), strict=True):
        python = [segment for segment in segments if segment.start <= t][-1].value_at(t)
        if math.isfinite(python):
            # 2 ulp of the largest term of b + (a - b) * gain * f, whose sum may cancel.
            scale = max(abs(python), *(max(abs(s.a), abs(s.b)) for s in segments))
            assert abs(native - python) <= 2 * math.ulp(scale), (t, native, python)
        else:
            assert native == python or (math.isnan(native) and math.isnan(python))


@given(segments(), STEPS)
@example(Segment(Kind.POLY, PastEnd.CONTINUE, length=4, p=0.5), [3, 4, 5])  # a negative base
@example(Segment(Kind.POLY, PastEnd.CONTINUE, length=1, p=3.0), [10**6, 10**9])
@example(Segment(Kind.EXP, PastEnd.CONTINUE, length=1, p=1.0), [709, 710, 10**9])  # overflows
@example(Segment(origin=2**60 + 1, stair=7, period=2**61, length=3.0), [0, 2**61, 2**62])
def test_every_kind_of_segment(segment: Segment, steps: list[int]) -> None:
    if segment.start > 0:
        head = Segment.constant(0.5)
        assert_twins((head, segment), [*steps, segment.start - 1, segment.start])
    else:
        assert_twins((segment,), steps)


@given(FINITE, BUILT, st.sampled_from([0.1, 1.0, 7.0]), STEPS)
@example(constant(1.0, 31), cosine_restarts(32, 2), 0.1, [0])  # its last cycle begins at 2**63 - 1
def test_every_builder_joined_and_scaled(first, second, factor, steps) -> None:
    schedule = first.then(second).scaled(factor)
    edges = [schedule.segments[-1].start + d for d in (-1, 0, 1)]
    assert_twins(schedule.segments, [*steps, *(t for t in edges if 0 <= t < 2**63)])


def test_a_step_finds_its_segment_and_its_part_of_the_values() -> None:
    pieces = [
        Segment(Kind.TABLE, start=3 * i, origin=3 * i, values=(i, i + 0.5)) for i in range(40)
    ]
    schedule = Schedule(tuple(pieces))
    natives = _C.schedule_factors(*schedule.pack(), range(130))
    assert natives == [min(t // 3, 39) + (0.5 if t % 3 or t >= 120 else 0.0) for t in range(130)]


def test_no_segments_is_the_factor_1() -> None:
    assert _C.schedule_factors(b"", [], [0, 5]) == [1.0, 1.0]


@given(schedule=BUILT, base=st.floats(0, 10), first=st.integers(0, 100))
def test_a_step_uses_the_base_times_the_factor(schedule, base, first) -> None:
    p = parameter(torch.zeros(3, dtype=torch.float64))
    opt = SGD([p], lr=base, schedule=schedule, backend="cpu")
    opt.steps_applied = first
    for t in range(first, first + 3):
        p.grad = torch.ones(3, dtype=torch.float64)
        before = p.detach().clone()
        opt.step()
        rate = base * _C.schedule_factors(*schedule.pack(), [t])[0]
        assert opt.get_last_lr() == [rate]
        assert torch.equal(p, before - rate)


@pytest.mark.parametrize("t", [0, 2**24 - 1, 2**24 + 1, 2**31 + 3, 2**53 + 1])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_counts_that_no_float_holds(backend: str, t: int) -> None:
    """The factor changes at every step, so a count rounded to any float would show."""
    stairs = Segment(Kind.TABLE, period=5, values=(0.1, 0.2, 0.3, 0.4, 0.5))
    p = parameter(torch.zeros(2))
    opt = SGD([p], lr=1.0, schedule=Schedule((stairs,)), backend=backend)
    opt.steps_applied = t
    for i in range(t, t + 7):
        p.grad = torch.ones(2)
        opt.step()
        assert opt.get_last_lr() == [stairs.values[i % 5]]
    assert opt.steps_applied == t + 7


def test_groups_share_schedules_or_have_their_own() -> None:
    warmup, drops = linear_warmup(4), multi_step([2, 3], 0.5)
    params = [parameter(torch.zeros(2)) for _ in range(4)]
    groups = [
        {"params": [params[0]]},
        {"params": [params[1]], "schedule": drops, "lr": 2.0},
        {"params": [params[2]], "schedule": None},
        {"params": [params[3]], "schedule": warmup.to_dict(), "lr": 0.5},
    ]
    for backend in ("cpu", "reference"):
        opt = SGD(groups, lr=1.0, schedule=warmup, backend=backend)
        for t in range(6):
            for p in params:
                p.grad = torch.ones(2)
            opt.step()
            assert opt.get_last_lr() == [warmup(t), 2.0 * drops(t), 1.0, 0.5 * warmup(t)]


def test_a_tensor_lr_is_the_base() -> None:
    schedule = cosine(5)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        p = parameter(torch.zeros(2))
        lr = torch.tensor(0.3, dtype=dtype)
        opt = SGD([p], lr=lr, schedule=schedule)
        for t in range(6):
            p.grad = torch.ones(2)
            opt.step()
            assert opt.get_last_lr() == [lr.double().item() * schedule(t)]
            lr.mul_(0.5)
