"""Products of schedules: each operation on a product is the product of what it does to factors."""

import copy
import json
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from support import models, parameter, set_grads
from support.strategies import BUILT, FINITE

from fused_warmup import _C, SGD
from fused_warmup.schedules import (
    Kind,
    PastEnd,
    Schedule,
    Segment,
    constant,
    cosine,
    join_schedules,
    linear,
    linear_warmup,
    multi_step,
    step,
    table,
)
from fused_warmup.schedules.plain import PlainSchedule

WARMUP, DROPS, DECAY = linear_warmup(4), step(3, 0.5), cosine(20)
STEPS = [*range(30), 2**40]
OVERFLOWS = Schedule((Segment(Kind.EXP, PastEnd.CONTINUE, length=1, p=1.0),))


@given(FINITE, BUILT, st.lists(st.integers(0, 2**62), max_size=4))
def test_a_product_is_what_its_factors_make_at_the_same_step(first, second, steps) -> None:
    product = first * second
    for t in (*steps, *range(0, 70, 7)):
        assert product(t) == first(t) * second(t)
    packed = product.pack()
    for native, t in zip(_C.schedule_factors(*packed, STEPS), STEPS, strict=True):
        assert native == pytest.approx(product(t), rel=1e-14, abs=1e-15)


def test_products_lie_flat() -> None:
    product = WARMUP * (DROPS * DECAY)
    assert product == (WARMUP * DROPS) * DECAY
    assert product.factors == (WARMUP, DROPS, DECAY)
    assert product.tracks == product.factors
    assert WARMUP.tracks == (WARMUP,)
    assert (product.steps, (WARMUP * DECAY).steps) == (None, 20)


@pytest.mark.parametrize("clock", ["own", "global"])
@pytest.mark.parametrize(
    ("first", "second"),
    [(WARMUP * DROPS, DECAY), (WARMUP, DROPS * DECAY), (WARMUP * DROPS, DECAY * DROPS * WARMUP)],
    ids=["head", "tail", "both"],
)
def test_what_follows_what(first: Schedule, second: Schedule, clock: str) -> None:
    joined = first.lasting(6).then(second, clock=clock)
    expected = [first(t) if t < 6 else second(t if clock == "global" else t - 6) for t in STEPS]
    assert joined(STEPS) == expected
    length = second.steps
    assert joined.steps == (length if length is None or clock == "global" else 6 + length)
    assert joined.lasting(50).then(constant(0.125))(50) == 0.125


def test_other_operations() -> None:
    product = WARMUP * DECAY
    assert product.scaled(4)(STEPS) == [4 * WARMUP(t) * DECAY(t) for t in STEPS]
    assert (2 * product)(3) == (product * 2.0)(3) == 2 * product(3)
    assert (np.float64(2) * product)(3) == (product * np.float32(2))(3) == 2 * product(3)
    assert product.scaled(0) == constant(0.0, 20)
    assert product.stretched(3)(STEPS) == [product(t // 3) for t in STEPS]
    assert product.stretched(3).steps == 60
    joined = join_schedules([WARMUP * DROPS, constant(0.5), DECAY * DROPS], [5, 9])
    expected = [
        (WARMUP * DROPS)(t) if t < 5 else 0.5 if t < 9 else (DECAY * DROPS)(t - 9) for t in STEPS
    ]
    assert joined(STEPS) == expected
    assert joined.steps is None
    assert product.lasting(7).steps == 7


@pytest.mark.parametrize("schedule", [WARMUP, DECAY * DROPS, table([0.5, 0.25])], ids=repr)
def test_starting_at(schedule: Schedule) -> None:
    later = schedule.starting_at(5)
    assert later(STEPS) == [schedule(max(t - 5, 0)) for t in STEPS]
    assert later.steps == (None if schedule.steps is None else schedule.steps + 5)
    assert schedule.starting_at(0) == schedule


def test_nothing_times_infinity_is_nothing() -> None:
    for product in (OVERFLOWS * constant(0.0), constant(0.0) * OVERFLOWS):
        assert product([10**6]) == _C.schedule_factors(*product.pack(), [10**6]) == [0.0]
    assert (OVERFLOWS * constant(0.5))(10**6) == math.inf


@pytest.mark.parametrize(
    "text",
    [
        "linear_warmup(4) * step(3, gamma=0.5)",
        "linear_warmup(4).then(constant(0.5)) * cosine(20) * step(3, gamma=0.5)",
        "(linear_warmup(4) * cosine(20)).lasting(30)",
    ],
)
def test_its_spelling_reads_back(text: str) -> None:
    from fused_warmup import schedules

    product = eval(text, vars(schedules).copy())
    assert repr(product) == text
    assert str(product).startswith("Product(Schedule(0: poly 0 -> 1 in 4")


@given(FINITE, BUILT, BUILT)
def test_it_survives_as_data(first, second, third) -> None:
    product = (first * second).lasting(9).then(third)
    plain = json.loads(json.dumps(product.to_dict()))
    assert Schedule.from_dict(plain) == product
    assert PlainSchedule(product) == plain
    assert PlainSchedule(plain).schedule == product
    assert pickle.loads(pickle.dumps(product)) == copy.deepcopy(product) == product
    assert hash(Schedule.from_dict(plain)) == hash(product)


def test_a_group_holds_it_as_data_that_cannot_be_edited() -> None:
    opt = SGD([parameter(torch.zeros(2))], lr=0.1, schedule=WARMUP * DROPS)
    plain = opt.param_groups[0]["schedule"]
    with pytest.raises(TypeError, match="edited in place"):
        plain["factors"][0]["segments"][0]["a"] = 5.0
    loaded = SGD([parameter(torch.zeros(2))], lr=0.1)
    loaded.load_state_dict(opt.state_dict())
    assert loaded.param_groups[0]["schedule"] == plain


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_step_uses_it_for_rate_and_momentum(backend: str) -> None:
    rate, momentum = WARMUP * DROPS, constant(0.5) * linear(8)
    params = models((3,), (2,))
    options = {"momentum": 0.9, "schedule": rate, "momentum_schedule": momentum}
    opt = SGD(params, lr=0.2, backend=backend, **options)
    for t in range(9):
        set_grads(params, t)
        opt.step()
        assert opt.get_last_lr() == [pytest.approx(0.2 * rate(t), rel=1e-15)]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Schedule((), None, (WARMUP,)), ValueError, "two factors or more"),
        (lambda: Schedule((), None, (WARMUP, WARMUP * DROPS)), ValueError, "a \\* b"),
        (lambda: Schedule((Segment(),), None, (WARMUP, DROPS)), ValueError, "1 segments"),
        (lambda: Schedule((), None, (WARMUP, 0.5)), TypeError, "got 0.5 of type float"),
        (lambda: Schedule((), None, 5), TypeError, "must be a list"),
        (lambda: Schedule.from_dict({"factors": 5, "steps": 1}), TypeError, "list of dicts"),
        (lambda: Schedule.from_dict({"factors": [5, 6], "steps": 1}), TypeError, "got 5"),
        (lambda: Schedule.from_dict({"factors": []}), ValueError, "'factors' and 'steps'"),
        (lambda: WARMUP * "2", TypeError, "multiply"),
        (lambda: WARMUP * -1.0, ValueError, "at least 0"),
        (lambda: (WARMUP * DROPS).then(WARMUP), ValueError, "endless"),
        (lambda: WARMUP.starting_at(-1), ValueError, "step must lie"),
        (lambda: multi_step(range(1, 9_000)) * multi_step(range(1, 9_000)), ValueError, "16384"),
    ],
)
def test_refuses(make, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        make()


@given(FINITE, BUILT)
@example(linear_warmup(4), constant(1.0))
def test_the_command_line_reads_it(first, second) -> None:
    from fused_warmup._cli.expression import parse_schedule

    product = first * second
    text = repr(product)
    if "Schedule" not in text and "Segment" not in text:
        assert parse_schedule(text) == product
