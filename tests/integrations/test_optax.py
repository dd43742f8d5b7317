"""Our builders beside optax's schedules in float64: every step, the edges and past the end.

Each row of the table in docs/coming_from/optax.md is a case.
"""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fused_warmup import schedules
from fused_warmup.schedules import (
    Kind,
    Schedule,
    Segment,
    constant,
    cosine,
    cosine_warmup,
    exponential,
    from_callable,
    inverse_sqrt,
    join_schedules,
    linear,
    linear_warmup,
    multi_step,
    one_cycle,
    polynomial,
    step,
)

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)  # before the first array

LR = 0.4
TEXT = (Path(__file__).parents[2] / "docs" / "coming_from" / "optax.md").read_text()
ROWS = re.findall(r"^\| `(\w+\(.*\))` \| `(.*)` \|$", TEXT, re.MULTILINE)
LENGTHS = st.integers(1, 60)
RATES = st.floats(0.01, 2.0)
# Below 1 a power makes much of how XLA rounds the end of a curve, but for lengths of 2**n.
POWERS = st.floats(1.0, 2.0)


def assert_same(ours: Schedule, theirs: Any, steps: int = 260) -> None:
    """Both round a float64 a few times, and 1 + cos(x) loses 4 digits at the end of 100 steps.

    Theirs is not compiled: XLA divides by multiplying with the reciprocal, and 49 / 49 < 1.
    """
    counts = np.arange(steps)
    wanted = np.broadcast_to(theirs(counts), steps)
    assert wanted.dtype == np.float64
    np.testing.assert_allclose(LR * ours(counts), wanted, rtol=1e-12, atol=1e-16)


def at_each(theirs: Any) -> Any:
    """A schedule of optax that takes one count, for many."""
    return jax.vmap(theirs)


def poly(a: float, b: float, power: float, steps: int) -> Schedule:
    return Schedule((Segment(length=steps, a=a / LR, b=b / LR, p=power),), steps)


@pytest.mark.parametrize(("theirs", "ours"), ROWS, ids=[theirs for theirs, _ in ROWS])
def test_the_table_in_the_docs(theirs: str, ours: str) -> None:
    scalar = "onecycle" in theirs or "interpolate" in theirs
    expected = eval(theirs, vars(optax))
    assert_same(eval(ours, vars(schedules)), at_each(expected) if scalar else expected)


def test_the_table_names_every_schedule_of_optax() -> None:
    named = {theirs.partition("(")[0] for theirs, _ in ROWS}
    everything = {name for name in dir(optax.schedules) if re.search(r"\w_schedule$|_decay$", name)}
    elsewhere = {"constant_schedule", "sgdr_schedule"}
    assert everything - named == elsewhere
    assert_same(constant(), optax.constant_schedule(0.4))


@given(RATES, RATES, POWERS, LENGTHS, LENGTHS)
def test_polynomial(a: float, b: float, power: float, steps: int, begin: int) -> None:
    theirs = optax.polynomial_schedule(a, b, power, steps, begin)
    assert_same(constant(a / LR, begin).then(poly(a, b, power, steps)), theirs)
    falls = polynomial(steps, power, end=b / a).scaled(a / LR)
    assert_same(falls, optax.polynomial_schedule(a, b, power, steps))
    rises = optax.polynomial_schedule(0.0, b, power, steps)
    assert_same(poly(0.0, b, power, steps), rises)


@pytest.mark.parametrize("power", [0.2, 0.5, 0.9, 3.0])
def test_steep_ends(power: float) -> None:
    theirs = optax.polynomial_schedule(LR, 0.1, power, 64)
    assert_same(polynomial(64, power, end=0.1 / LR), theirs)
    assert_same(poly(0.0, LR, power, 64), optax.polynomial_schedule(0.0, LR, power, 64))
    fall = Schedule((Segment(Kind.COS, length=64, p=power),), 64)
    assert_same(fall, optax.cosine_decay_schedule(LR, 64, exponent=power))


@given(RATES, RATES, LENGTHS)
def test_linear(a: float, b: float, steps: int) -> None:
    assert_same(linear(steps, a / LR, b / LR), optax.linear_schedule(a, b, steps))
    assert_same(linear_warmup(steps, a / LR), optax.warmup_constant_schedule(a, LR, steps))


@given(st.floats(0.05, 1.5), LENGTHS, LENGTHS, st.booleans())
def test_exponential(rate: float, steps: int, begin: int, staircase: bool) -> None:
    fall = step(steps, rate) if staircase else exponential(rate, steps)
    theirs = optax.exponential_decay(LR, steps, rate, begin, staircase)
    assert_same(constant(steps=begin).then(fall), theirs, 90)
    late = optax.warmup_exponential_decay_schedule(0.1, LR, 7, steps, rate, begin, staircase)
    warmup = linear_warmup(7, 0.1 / LR)
    assert_same(warmup.then(constant(steps=begin)).then(fall), late, 90)


@pytest.mark.parametrize("staircase", [False, True])
@pytest.mark.parametrize(("rate", "end", "stairs"), [(0.5, 0.1, 2), (0.5, 0.07, 3), (2.0, 3.3, 4)])
def test_exponential_stops(rate: float, end: float, stairs: int, staircase: bool) -> None:
    theirs = optax.exponential_decay(LR, 20, rate, staircase=staircase, end_value=end)
    reached = int(np.ceil(20 * np.log(end / LR) / np.log(rate)))
    ours = step(20, rate) if staircase else exponential(rate, 20)
    ours = ours.lasting(20 * stairs if staircase else reached)
    assert_same(ours.then(constant(end / LR)), theirs)


@given(LENGTHS, LENGTHS, st.floats(0.0, 0.9), POWERS)
def test_cosine(warmup: int, steps: int, end: float, exponent: float) -> None:
    fall = Schedule((Segment(Kind.COS, length=steps, b=end, p=exponent),), steps)
    assert_same(fall, optax.cosine_decay_schedule(LR, steps, end, exponent))
    theirs = optax.warmup_cosine_decay_schedule(0.1, LR, warmup, warmup + steps, end * LR, exponent)
    assert_same(linear_warmup(warmup, 0.1 / LR).then(fall), theirs)


@given(st.lists(st.tuples(RATES, LENGTHS, LENGTHS), min_size=1, max_size=4))
def test_sgdr(cycles: list[tuple[float, int, int]]) -> None:
    theirs = optax.sgdr_schedule(
        [
            {"init_value": 0.0, "peak_value": peak, "warmup_steps": up, "decay_steps": up + down}
            for peak, up, down in cycles
        ]
    )
    parts = [linear_warmup(up).then(cosine(down)).scaled(peak / LR) for peak, up, down in cycles]
    ends = np.cumsum([up + down for _, up, down in cycles])
    assert_same(join_schedules(parts, [int(end) for end in ends[:-1]]), theirs, 500)


@given(
    RATES, st.dictionaries(st.integers(1, 90), st.floats(0.1, 3.0), min_size=1, max_size=4)
)  # fmt: skip
def test_piecewise(first: float, scales: dict[int, float]) -> None:
    bounds = sorted(scales)
    values = first / LR * np.cumprod([1.0, *(scales[bound] for bound in bounds)])
    theirs = optax.piecewise_constant_schedule(first, scales)
    assert_same(join_schedules([constant(float(v)) for v in values], bounds), theirs)
    lengths = np.diff([0, *bounds])
    for kind in ("linear", "cosine"):
        parts = [
            linear(int(n), float(a), float(b))
            if kind == "linear"
            else cosine(int(n), float(b / a)).scaled(float(a))
            for n, a, b in zip(lengths, values[:-1], values[1:], strict=True)
        ]
        parts.append(constant(float(values[-1])))
        theirs = at_each(optax.piecewise_interpolate_schedule(kind, first, scales))
        assert_same(join_schedules(parts, bounds), theirs)


@pytest.mark.parametrize("steps", [4, 7, 30, 101])
@pytest.mark.parametrize("pct", [0.25, 0.3, 0.5])
def test_one_cycle(steps: int, pct: float) -> None:
    options = {"pct_start": pct, "div_factor": 10.0, "final_div_factor": 50.0}
    up, down = int(pct * steps), int(0.85 * steps)
    cosines = at_each(optax.cosine_onecycle_schedule(steps, LR, **options))
    assert_same(cosine_warmup(up, 0.1).then(cosine(steps - up, 1 / 500)), cosines)
    lines = linear_warmup(up, 0.1).then(linear(down - up, 1, 0.1))
    lines = lines.then(linear(steps - down, 0.1, 1 / 500))
    assert_same(lines, at_each(optax.linear_onecycle_schedule(steps, LR, **options)))
    # The docs say that torch's, which one_cycle is, comes a step early.
    assert_same(one_cycle(steps + 1, (up + 1) / (steps + 1), "cos", 10.0, 50.0), cosines)


PARTS = [
    (linear_warmup(5), optax.linear_schedule(0.0, LR, 5)),
    (cosine(7), optax.cosine_decay_schedule(LR, 7)),
    (step(3, 0.5), optax.exponential_decay(LR, 3, 0.5, staircase=True)),
    (inverse_sqrt(4), lambda count: LR / (1 + np.maximum(count, 0) / 4) ** 0.5),
    (multi_step([2, 5], 0.5), optax.piecewise_constant_schedule(LR, {2: 0.5, 5: 0.5})),
]


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=5), st.data())
def test_join_schedules(parts: list[Any], data: st.DataObject) -> None:
    n = len(parts) - 1
    bounds = sorted(data.draw(st.lists(st.integers(0, 40), min_size=n, max_size=n)))
    ours = join_schedules([ours for ours, _ in parts], bounds)
    assert_same(ours, optax.join_schedules([theirs for _, theirs in parts], bounds), 90)


def test_any_other_is_sampled() -> None:
    theirs = optax.warmup_cosine_decay_schedule(0.1, LR, 10, 90, exponent=3.0)
    assert_same(from_callable(lambda t: float(theirs(t)) / LR, steps=100), theirs, 130)
