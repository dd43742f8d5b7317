"""CyclicLR of long cycles: lines instead of tables, and limits instead of waiting."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    SequentialLR,
)

from fused_warmup import convert, from_torch, momentum_from_torch

MILLION = 10**6
SHAPES: dict[str, dict[str, Any]] = {
    "triangular": {"step_size_up": 2 * MILLION},
    "lopsided": {"step_size_up": 2 * MILLION, "step_size_down": 3},
    "at once": {"step_size_up": 1, "step_size_down": 2 * MILLION},
    "fractional": {"step_size_up": 2.5, "step_size_down": MILLION + 0.25},
    "triangular2": {"step_size_up": MILLION, "mode": "triangular2"},
    "of the cycle": {"step_size_up": MILLION, "scale_fn": lambda cycle: 1 / cycle},
}
AT = [0, 1, 2, 3, 4, 5, 999_999, MILLION, MILLION + 1, 2 * MILLION - 1, 2 * MILLION]
AT += [2 * MILLION + n for n in range(1, 9)] + [3_456_789, 5 * MILLION - 1]


def optimizer() -> torch.optim.SGD:
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    opt._opt_called = True  # type: ignore[attr-defined]  # so that torch does not miss our steps
    return opt


def at(scheduler: CyclicLR, t: int) -> tuple[float, float]:
    scheduler.last_epoch = t - 1
    scheduler.step()
    group = scheduler.optimizer.param_groups[0]
    return group["lr"], group["momentum"]


@pytest.mark.parametrize("name", SHAPES)
def test_lines_are_torchs_at_every_step(name: str) -> None:
    scheduler = CyclicLR(optimizer(), 0.01, 0.2, **SHAPES[name])
    rates = from_torch(scheduler, steps=5 * MILLION, lr=1.0)
    momenta = momentum_from_torch(scheduler, steps=5 * MILLION, momentum=1.0)
    assert momenta is not None
    assert not any(s.values for s in (*rates.segments, *momenta.segments) if len(s.values) > 9)
    assert rates.steps == momenta.steps == 5 * MILLION
    for schedule in (rates, momenta):  # scaled, and thereby rounded, apart
        assert schedule(10**9) == pytest.approx(schedule(5 * MILLION - 1), rel=1e-15)
    for t in AT:
        lr, momentum = at(scheduler, t)
        assert (rates(t), momenta(t)) == pytest.approx((lr, momentum), rel=1e-9), t


@pytest.mark.parametrize("name", ["triangular", "triangular2"])
def test_without_a_length_it_is_asked_for(name: str) -> None:
    scheduler = CyclicLR(optimizer(), 0.01, 0.2, **SHAPES[name])
    for function in (from_torch, momentum_from_torch):
        with pytest.raises(ValueError, match="pass steps="):
            function(scheduler)


def test_a_run_in_the_middle_of_a_long_cycle_goes_on() -> None:
    opt = optimizer()
    scheduler = CyclicLR(opt, 0.01, 0.2, 2 * MILLION)
    at(scheduler, 2_500_000)
    expected = [at(scheduler, t)[0] for t in (2_500_000, 4 * MILLION, 4 * MILLION + 7)]
    at(scheduler, 2_500_000)
    fused = convert(opt, scheduler, steps=9 * MILLION)
    assert fused.steps_applied == 2_500_000
    assert fused.get_last_lr() == [pytest.approx(expected[0])]
    for t, rate in zip((4 * MILLION, 4 * MILLION + 7), expected[1:], strict=True):
        fused.steps_applied = t
        assert fused.scheduler().get_last_lr() == [pytest.approx(rate)]


def test_a_short_cycle_for_a_long_time_stays_a_table() -> None:
    schedule = from_torch(CyclicLR(optimizer(), 0.01, 0.2, 1000), steps=10**12)
    assert len(schedule.segments) <= 2
    scheduler = CyclicLR(optimizer(), 0.01, 0.2, 1000)
    assert 0.01 * schedule(10**12 - 123) == pytest.approx(at(scheduler, 10**12 - 123)[0], rel=1e-3)


TOO_LONG: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "lambda": lambda o: LambdaLR(o, lambda t: 0.5),
    "exp_range": lambda o: CyclicLR(o, 0.01, 0.2, MILLION, mode="exp_range", gamma=0.99),
    "lines": lambda o: CyclicLR(o, 0.01, 0.2, 3.25),  # type: ignore[arg-type]
    "in a sequence": lambda o: SequentialLR(
        o, [ExponentialLR(o, 0.9), LambdaLR(o, lambda t: 0.5)], [4]
    ),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_what_would_be_sampled_for_ever_is_refused_at_once(name: str) -> None:
    opt = optimizer()
    scheduler = TOO_LONG[name](opt)
    with pytest.raises(ValueError, match="one by one, at most 4194304 can be: lower steps"):
        from_torch(scheduler, steps=10**12)
    with pytest.raises(ValueError, match="sampled one by one"):
        convert(opt, scheduler, steps=10**12)


def test_a_law_that_misses_one_step_is_not_sampled_on() -> None:
    schedule = from_torch(CosineAnnealingLR(optimizer(), 3, 0.01), steps=10**12)
    assert len(schedule.segments) < 9
