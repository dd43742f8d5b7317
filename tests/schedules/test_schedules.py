"""Schedules: calling, joining, scaling, storing; the builders have test_schedule_builders.py."""

import copy
import io
import json
import math
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from support.strategies import BUILT, FINITE

import fused_warmup.schedules as schedules
from fused_warmup.schedules import (
    Kind,
    Schedule,
    Segment,
    constant,
    cosine,
    cosine_restarts,
    exponential,
    linear,
    linear_warmup,
    step,
    table,
)

STEPS = st.integers(0, 200)


@given(BUILT, st.lists(STEPS, max_size=8))
def test_one_step_or_many(schedule, steps):
    wanted = [schedule(t) for t in steps]
    assert schedule(steps) == wanted
    for answer, kind in (
        (schedule(np.array(steps, dtype=np.int64)), np.ndarray),
        (schedule(torch.tensor(steps, dtype=torch.int64)), torch.Tensor),
    ):
        assert isinstance(answer, kind)
        assert str(answer.dtype).endswith("float64")
        assert answer.tolist() == wanted
    assert all(type(value) is float and math.isfinite(value) for value in wanted)


def test_shapes_are_kept():
    schedule = linear(4)
    assert schedule(range(3)) == [1.0, 0.75, 0.5]
    assert schedule(np.arange(6).reshape(2, 3)).shape == (2, 3)
    assert schedule(torch.arange(6).reshape(2, 3)).shape == (2, 3)
    assert schedule(torch.tensor(1)).shape == ()
    assert schedule(np.int32(1)) == 0.75


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        (-1, ValueError, r"t must lie in \[0, .*got -1"),
        ([0, -3], ValueError, "got -3"),
        (2**63, ValueError, "t must lie in"),
        (True, TypeError, "t must be an integer, got True"),
        (0.5, TypeError, "t must be an integer, got 0.5"),
        (torch.tensor([0.5]), TypeError, "got 0.5 of type float"),
        (np.array([0.5]), TypeError, "got 0.5 of type float"),
        (None, TypeError, "t must be an integer, got None"),
    ],
)
def test_bad_steps_are_named(t, error, message):
    with pytest.raises(error, match=message):
        constant()(t)


@given(FINITE, BUILT, STEPS)
def test_then_on_its_own_clock(first, second, t):
    wanted = first(t) if t < first.steps else second(t - first.steps)
    assert first.then(second)(t) == wanted


@given(st.builds(linear_warmup, st.integers(1, 20)), BUILT, STEPS)
def test_then_on_the_global_clock(first, second, t):
    second = second.lasting(100)
    joined = first.then(second, clock="global")
    assert joined(t) == (first(t) if t < first.steps else second(t))
    assert joined.steps == 100


@given(FINITE, FINITE, BUILT, STEPS)
def test_then_is_associative(a, b, c, t):
    assert a.then(b).then(c) == a.then(b.then(c))
    assert a.then(b).then(c)(t) == a.then(b.then(c))(t)


def test_then_adds_lengths():
    assert linear(3).then(cosine(4)).steps == 7
    assert linear(3).then(step(4)).steps is None


def test_then_drops_what_lies_beyond_int64():
    last = Schedule((Segment(), Segment.constant(0.0, start=2**63 - 1)))
    assert len(linear(1).then(last).segments) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: step(3).then(linear(3)), ValueError, r"endless .* \.lasting\(steps\)"),
        (lambda: linear(3).then(cosine(3), clock="global"), ValueError, "outlast the first 3"),
        (lambda: linear(3).then(cosine(3), clock="mine"), ValueError, "clock must be 'own' or"),
        (lambda: linear(3).then(0.5), TypeError, "takes a Schedule, got float"),
        (lambda: linear(3).scaled(-1), ValueError, "factor must be a finite number of at least 0"),
        (lambda: linear(3).lasting(0), ValueError, "steps must lie in"),
        (lambda: Schedule(()), ValueError, "no segments"),
        (lambda: Schedule((Segment(start=1),)), ValueError, "a gap: .* got start=1"),
        (lambda: Schedule((Segment(), Segment())), ValueError, "increase, got 0 after 0"),
        (lambda: Schedule(({"kind": "poly"},)), TypeError, "Schedule.from_dict"),
        (lambda: Schedule((Segment(),), steps=0), ValueError, "steps must lie in"),
        (lambda: Schedule.from_dict([1]), TypeError, "must be a Schedule or the dict"),
        (lambda: Schedule.from_dict({"segments": 5, "steps": 1}), TypeError, "must be a list of"),
        (lambda: Schedule.from_dict({"segments": [5], "steps": 1}), TypeError, "must be a list of"),
        (lambda: Schedule.from_dict({"segments": []}), ValueError, "keys 'segments' and 'steps'"),
    ],
)
def test_bad_schedules_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@given(BUILT, st.floats(0.0, 10.0), STEPS)
@example(cosine_restarts(1, 1, 0.9, 0.5), 2.0**-1022 / 2, 1)  # products are subnormal
def test_scaled(schedule, factor, t):
    # Scaling a and b first rounds differently: on either side a and b once, their difference twice
    # and its two products once more, the sum once. That is twelve roundings of at most 2**-53 of
    # the largest of them, or of half of 2**-1074 where a factor makes the products subnormal.
    largest = max(1.0, *(max(abs(s.a), abs(s.b), *s.values, 0.0) for s in schedule.segments))
    wanted = factor * schedule(t)
    rounding = 12 * 2.0**-53 * factor * largest + 6 * 2.0**-1074
    assert schedule.scaled(factor)(t) == pytest.approx(wanted, rel=0, abs=rounding)
    assert schedule.scaled(factor).steps == schedule.steps


def test_scaled_to_zero_stays_zero_where_the_formula_overflows():
    growing = exponential(2.0)
    assert growing(10_000) == math.inf
    assert growing.scaled(0)(10_000) == 0.0


@given(BUILT)
def test_storing_is_exact(schedule):
    plain = schedule.to_dict()
    stored = io.BytesIO()
    torch.save(plain, stored)
    stored.seek(0)
    for same in (
        Schedule.from_dict(plain),
        Schedule.from_dict(json.loads(json.dumps(plain))),
        Schedule.from_dict(torch.load(stored, weights_only=True)),
        pickle.loads(pickle.dumps(schedule)),
    ):
        assert same == schedule
        assert hash(same) == hash(schedule)
        assert same.pack() == schedule.pack()
    assert Schedule.from_dict(schedule) is schedule


@given(FINITE, BUILT)
def test_pack_joins_segments_and_tables(first, second):
    joined = first.then(second)
    records, values = joined.pack()
    assert len(records) == 128 * len(joined.segments)
    offset = 0
    for i, segment in enumerate(joined.segments):
        assert records[128 * i : 128 * (i + 1)] == segment.pack(offset)
        assert values[offset : offset + len(segment.values)] == segment.values
        offset += len(segment.values)
    assert len(values) == offset


def test_schedules_are_values():
    assert linear(3) == linear(3) != linear(4)
    assert len({linear(3), linear(3), cosine(3)}) == 2
    with pytest.raises(FrozenInstanceError):
        linear(3).steps = 4


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_copies_are_equal(protocol):
    schedule = linear_warmup(3).then(table([1.0, 0.5]))
    for same in (
        pickle.loads(pickle.dumps(schedule, protocol)),
        copy.copy(schedule),
        copy.deepcopy(schedule),
    ):
        assert same == schedule
        assert hash(same) == hash(schedule)
        assert same(range(6)) == schedule(range(6))


def lambda_lr(schedule):
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, schedule)
    opt.step()
    return scheduler


def test_a_lambda_lr_of_a_schedule_is_saved_and_loaded():
    schedule, stored = linear_warmup(3).then(table([1.0, 0.5])), io.BytesIO()
    scheduler = lambda_lr(schedule)
    scheduler.step()
    torch.save(scheduler.state_dict(), stored)
    stored.seek(0)
    state = torch.load(stored, weights_only=True)
    assert Schedule.from_dict(state["lr_lambdas"][0]) == schedule
    resumed = lambda_lr(schedule)
    resumed.load_state_dict(state)
    for _ in range(5):
        scheduler.step()
        resumed.step()
        assert resumed.get_last_lr() == scheduler.get_last_lr()
    assert resumed.last_epoch == 6
    assert schedule == linear_warmup(3).then(table([1.0, 0.5]))


def test_a_lambda_lr_never_goes_on_with_another_schedule_unasked():
    state, other = lambda_lr(linear_warmup(3)).state_dict(), lambda_lr(linear_warmup(4))
    with pytest.raises(ValueError, match=r"'length': 3.*'length': 4.*to None"):
        other.load_state_dict(state)
    state["lr_lambdas"] = [None]
    other.load_state_dict(state)
    assert other.lr_lambdas == [linear_warmup(4)]


def test_summary_is_short():
    assert str(step(30)) == "Schedule(0: exp 1 -> 0 in 30, on and on; steps=None)"
    assert str(table([1.0, 0.5])) == "Schedule(0: table of 2; steps=2)"
    assert len(repr(cosine_restarts(1, mult=2))) < 200
    everything = Schedule(tuple(Segment(Kind.COS, start=i) for i in range(300)))
    assert "... 295 more ..." in repr(everything)


def test_importing_the_package_needs_no_torch():
    """Only `fused_warmup` itself imports torch; a stand-in for it leaves the schedules alone."""
    folder = Path(schedules.__file__).parent.parent
    code = (
        "import sys, types\n"
        "package = types.ModuleType('fused_warmup')\n"
        f"package.__path__ = [{str(folder)!r}]\n"
        "sys.modules['fused_warmup'] = package\n"
        "import fused_warmup.schedules as s\n"
        "assert s.linear(4)([0, 1]) == [1.0, 0.75]\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
