"""The momentum that torch's OneCycleLR and CyclicLR set, after every one of their steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CyclicLR,
    ExponentialLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from fused_warmup import Schedule, momentum_from_torch

Make = Callable[[torch.optim.Optimizer], Any]
CLOSED: dict[str, Make] = {
    "OneCycleLR": lambda o: OneCycleLR(o, 0.5, 40),
    "OneCycleLR linear": lambda o: OneCycleLR(o, 0.5, 40, anneal_strategy="linear"),
    "OneCycleLR three": lambda o: OneCycleLR(o, 0.5, 40, three_phase=True, pct_start=0.37),
    "OneCycleLR up": lambda o: OneCycleLR(o, 0.5, 40, base_momentum=0.9, max_momentum=0.4),
    "CyclicLR": lambda o: CyclicLR(o, 0.01, 0.2, 3, 5),
    "CyclicLR from 0": lambda o: CyclicLR(o, 0.01, 0.2, 3, base_momentum=0.0, max_momentum=0.7),
    "CyclicLR 2": lambda o: CyclicLR(o, 0.01, 0.2, 3, mode="triangular2"),
    "CyclicLR exp": lambda o: CyclicLR(o, 0.01, 0.2, 3, 5, mode="exp_range", gamma=0.9),
}
SAMPLED: dict[str, Make] = {
    "CyclicLR of one's own": lambda o: CyclicLR(o, 0.01, 0.2, 3, scale_fn=lambda x: 1 / x),
    "Sequential": lambda o: SequentialLR(
        o, [LinearLR(o, 0.1, total_iters=5), OneCycleLR(o, 0.5, 40)], [5]
    ),
    "Chained": lambda o: ChainedScheduler([CyclicLR(o, 0.01, 0.2, 3), ExponentialLR(o, 0.9)]),
}
STEPS = 40


def optimizer() -> torch.optim.SGD:
    params = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    opt = torch.optim.SGD([{"params": [p]} for p in params], lr=1.0, momentum=0.9)
    opt._opt_called = True  # type: ignore[attr-defined]  # so that torch does not miss our steps
    return opt


def momenta(make: Make) -> list[float]:
    opt = optimizer()
    scheduler = make(opt)
    found = []
    for t in range(STEPS):
        if t:
            scheduler.step()
        found.append(opt.param_groups[1]["momentum"])
    return found


@pytest.mark.parametrize("far", [0, 7])
@pytest.mark.parametrize("name", [*CLOSED, *SAMPLED])
def test_equals_torch_at_every_step(name: str, far: int) -> None:
    make = {**CLOSED, **SAMPLED}[name]
    expected = momenta(make)
    scheduler = make(optimizer())
    for _ in range(far):
        scheduler.step()
    steps = {} if name in CLOSED else {"steps": STEPS}
    schedule = momentum_from_torch(scheduler, momentum=0.9, group=1, **steps)
    assert schedule is not None
    found = [0.9 * factor for factor in schedule(range(STEPS))]
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert len(set(found)) > 2


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR", *SAMPLED])
def test_of_an_adam_it_is_the_first_beta(name: str) -> None:
    make = {**CLOSED, **SAMPLED}[name]
    schedules = []
    for kind in (torch.optim.SGD, torch.optim.Adam):
        opt = kind([torch.zeros(1, requires_grad=True)], lr=1.0)
        opt._opt_called = True  # type: ignore[attr-defined]
        schedules.append(momentum_from_torch(make(opt), momentum=0.9, steps=STEPS))
    assert schedules[0] == schedules[1]


@pytest.mark.parametrize("name", CLOSED)
def test_the_base_is_the_highest(name: str) -> None:
    scheduler = CLOSED[name](optimizer())
    highest = scheduler.optimizer.param_groups[0].get("max_momentum") or scheduler.max_momentums[0]
    schedule = momentum_from_torch(scheduler)
    assert schedule is not None
    expected = momenta(CLOSED[name])
    assert [highest * f for f in schedule(range(STEPS))] == pytest.approx(expected, rel=1e-12)


def test_past_its_end_the_last_stays() -> None:
    schedule = momentum_from_torch(OneCycleLR(optimizer(), 0.5, 40))
    assert isinstance(schedule, Schedule)
    assert schedule([39, 40, 1000]) == pytest.approx([1.0] * 3, rel=1e-15)


@pytest.mark.parametrize(
    "make",
    [lambda o: StepLR(o, 3), lambda o: OneCycleLR(o, 0.5, 40, cycle_momentum=False)],
)
def test_a_momentum_that_stays_has_no_schedule(make: Make) -> None:
    assert momentum_from_torch(make(optimizer())) is None


@pytest.mark.parametrize("name", SAMPLED)
def test_what_has_no_closed_form_needs_the_length(name: str) -> None:
    with pytest.raises(ValueError, match=r"pass steps="):
        momentum_from_torch(SAMPLED[name](optimizer()))


def test_refuses() -> None:
    with pytest.raises(TypeError, match="ReduceLROnPlateau follows a metric"):
        momentum_from_torch(ReduceLROnPlateau(optimizer()))
    cycle = CyclicLR(optimizer(), 0.1, 0.2, 4, base_momentum=0.0, max_momentum=0.0)
    with pytest.raises(ValueError, match=r"base momentum of group 0 is 0\.0"):
        momentum_from_torch(cycle)
    with pytest.raises(ValueError, match="momentum must be a finite number"):
        momentum_from_torch(cycle, momentum=float("nan"))
