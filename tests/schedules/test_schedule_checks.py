"""What callers get wrong: every error names the value, the constraint and the remedy."""

import math

import numpy as np
import pytest
import torch

from fused_warmup import schedules as s

NEEDS_LENGTH = [
    s.constant_warmup,
    s.linear_warmup,
    s.cosine_warmup,
    s.exponential_warmup,
    s.linear,
    s.polynomial,
    s.cosine,
    s.step,
    s.inverse_sqrt,
    s.cosine_restarts,
    s.one_cycle,
    s.one_cycle_momentum,
]


@pytest.mark.parametrize("build", [*NEEDS_LENGTH, s.cyclic, s.cyclic_momentum])
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (2**63, ValueError),
        (True, TypeError),
        (3.0, TypeError),
        ("3", TypeError),
        (math.nan, TypeError),
    ],
)
def test_bad_lengths_are_named(build, bad, error):
    with pytest.raises(error, match=f"(steps|step_size|timescale|steps_up) must .*got '?{bad}"):
        build(bad)


@pytest.mark.parametrize("build", NEEDS_LENGTH)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "no length given"),
        ({"epochs": 3}, TypeError, "no length given .* give .* epochs with steps_per_epoch"),
        ({"steps_per_epoch": 3}, TypeError, "no length given"),
        ({"epochs": 0, "steps_per_epoch": 3}, ValueError, "epochs must be .* above 0, got 0"),
        ({"epochs": -1, "steps_per_epoch": 3}, ValueError, "epochs must be .* got -1"),
        ({"epochs": math.nan, "steps_per_epoch": 3}, ValueError, "epochs must be .* got nan"),
        ({"epochs": True, "steps_per_epoch": 3}, TypeError, "epochs must be a real number"),
        ({"epochs": 1, "steps_per_epoch": 0}, ValueError, r"steps_per_epoch must .*got 0"),
        ({"epochs": 1, "steps_per_epoch": 2.5}, TypeError, "steps_per_epoch must be an integer"),
        ({"epochs": 0.01, "steps_per_epoch": 9}, ValueError, "rounds to 0 steps.*make it longer"),
    ],
)
def test_bad_epochs_are_named(build, arguments, error, message):
    with pytest.raises(error, match=message):
        build(**arguments)


@pytest.mark.parametrize("build", NEEDS_LENGTH)
def test_two_lengths_are_refused(build):
    with pytest.raises(TypeError, match="together with epochs=2"):
        build(3, epochs=2, steps_per_epoch=3)
    with pytest.raises(TypeError, match="give the length in steps or in epochs"):
        build(3, steps_per_epoch=3)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda v: s.constant(v), "value"),
        (lambda v: s.constant_warmup(3, v), "factor"),
        (lambda v: s.linear_warmup(3, v), "start"),
        (lambda v: s.cosine_warmup(3, v), "start"),
        (lambda v: s.exponential_warmup(3, v), "start"),
        (lambda v: s.linear(3, v), "start"),
        (lambda v: s.linear(3, 1.0, v), "end"),
        (lambda v: s.polynomial(3, v), "power"),
        (lambda v: s.polynomial(3, 1.0, v), "end"),
        (lambda v: s.cosine(3, v), "end"),
        (lambda v: s.exponential(v), "gamma"),
        (lambda v: s.step(3, v), "gamma"),
        (lambda v: s.multi_step([3], v), "gamma"),
        (lambda v: s.cosine_restarts(3, v), "mult"),
        (lambda v: s.cosine_restarts(3, 1, v), "end"),
        (lambda v: s.cosine_restarts(3, cycle_gain=v), "cycle_gain"),
        (lambda v: s.cyclic(3, low=v), "low"),
        (lambda v: s.cyclic(3, mode="exp_range", gamma=v), "gamma"),
        (lambda v: s.one_cycle(3, v), "pct_start"),
        (lambda v: s.one_cycle_momentum(3, v), "pct_start"),
        (lambda v: s.one_cycle_momentum(3, low=v), "low"),
        (lambda v: s.cyclic_momentum(3, low=v), "low"),
        (lambda v: s.one_cycle(3, div_factor=v), "div_factor"),
        (lambda v: s.one_cycle(3, final_div_factor=v), "final_div_factor"),
        (lambda v: s.warmup_stable_decay(1, 1, 1, start=v), "start"),
        (lambda v: s.warmup_stable_decay(1, 1, 1, end=v), "end"),
        (lambda v: s.table([0.0, v]), r"values\[1\]"),
        (lambda v: s.from_callable(lambda t: [1.0, 1.0, v][t], 3), r"fn\(2\)"),
    ],
)
def test_bad_factors_are_named(call, name, bad):
    with pytest.raises(ValueError, match=f"{name} must be a finite number.*got {bad}: pass"):
        call(bad)
    with pytest.raises(TypeError, match=f"{name} must be a real number, got True"):
        call(True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: s.constant(1.0, 0), ValueError, "steps must lie in"),
        (lambda: s.linear_warmup(3, count_from=2), ValueError, "count_from must be 0 or 1, got 2"),
        (lambda: s.linear_warmup(3, count_from=True), TypeError, "count_from must be an integer"),
        (lambda: s.exponential_warmup(3, 0), ValueError, "start must be .* above 0, got 0"),
        (lambda: s.polynomial(3, 0), ValueError, "power must be .* above 0, got 0"),
        (lambda: s.multi_step(), TypeError, "milestones either in steps or in epochs"),
        (lambda: s.multi_step([1], epochs=[1]), TypeError, "milestones either in steps or"),
        (lambda: s.multi_step([]), ValueError, "no milestones"),
        (lambda: s.multi_step([3, -1]), ValueError, "milestones must lie in .*got -1"),
        (lambda: s.multi_step([3.5]), TypeError, "milestones must be an integer, got 3.5"),
        (lambda: s.linear_warmup("5"), TypeError, r"got '5' of type str: pass a number, int\("),
        (lambda: s.cosine(epochs=1, steps_per_epoch=[1, 2]), TypeError, r"list: pass its len\("),
        (lambda: s.cosine(torch.tensor(2.5)), TypeError, "of type Tensor: round it to a whole"),
        (lambda: s.cosine_restarts(3, 0.5), ValueError, "mult must be .* at least 1, got 0.5"),
        (lambda: s.cosine_restarts(3, 1.01), ValueError, "mult=1.01 makes more than 256 cycles"),
        (lambda: s.cosine_restarts(3, cycles=0), ValueError, "cycles must lie in"),
        (lambda: s.cosine_restarts(2**62, cycles=2), ValueError, r"cycles \* steps must lie in"),
        (lambda: s.cyclic(3, steps_per_epoch=3), TypeError, "steps_up=3 together with"),
        (lambda: s.cyclic(3, mode="square"), ValueError, "mode must be .*got 'square'"),
        (lambda: s.cyclic(3, gamma=0.9), ValueError, "no meaning in mode 'triangular'"),
        (lambda: s.one_cycle(1), ValueError, r"steps must lie in \[2"),
        (lambda: s.one_cycle(9, 0.6, three_phase=True), ValueError, "pct_start must .*at most 0.5"),
        (lambda: s.one_cycle(9, anneal_strategy="sine"), ValueError, "anneal_strategy must be one"),
        (lambda: s.warmup_stable_decay(1, None, 1), TypeError, "stable_steps=None, stable_epochs"),
        (lambda: s.warmup_stable_decay(1, 1, 0), ValueError, "decay_steps must lie in"),
        (lambda: s.warmup_stable_decay(1, 1, 1, decay="x"), ValueError, "decay must be one of"),
        (lambda: s.warmup_stable_decay(1, 1, 1, warmup="x"), ValueError, "warmup must be one of"),
        (lambda: s.table([]), ValueError, "empty table"),
        (lambda: s.table([1.0], past_end="stop"), ValueError, "past_end must be 'hold' or"),
        (lambda: s.table(["1"]), TypeError, r"values\[0\] must be a real number, got '1'"),
        (lambda: s.from_callable(0.5, 3), TypeError, "fn must be callable, got 0.5"),
        (lambda: s.from_callable(lambda t: None, 3), TypeError, r"fn\(0\) must be a real number"),
    ],
)
def test_other_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_numbers_of_other_libraries_are_welcome():
    assert s.linear(np.int64(4), np.float32(0.5)) == s.linear(4, 0.5)
    assert s.linear(torch.tensor(4)) == s.linear(4)
    for values in (np.array([1.0, 0.5]), torch.tensor([1.0, 0.5]), (1, 0.5), iter([1.0, 0.5])):
        assert s.table(values) == s.table([1.0, 0.5])
    assert s.from_callable(lambda t: np.float64(t), 3)(range(3)) == [0.0, 1.0, 2.0]
    stored = s.linear(4, np.float64(0.5)).to_dict()["segments"][0]["a"]
    assert type(stored) is float  # numpy's would not load under weights_only


@pytest.mark.parametrize("name", [n for n in s.__all__ if n.endswith("_warmup")])
@pytest.mark.parametrize("none", [{"steps": 0}, {"epochs": 0, "steps_per_epoch": 9}])
def test_a_warmup_of_no_steps_says_to_leave_it_out(name: str, none: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must .*got 0.*, or leave the warm-up out"):
        getattr(s, name)(**none)
