"""from_torch against torch's schedulers themselves, step by step.

The tolerance is 1e-12 of the highest rate so far, the base at least: torch's recursions drift by
some 1e-14 in a hundred steps, and near the zero of a cosine no relative bound could hold for
either side.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.optim.swa_utils import SWALR

import fused_warmup
from fused_warmup import Schedule, from_torch
from fused_warmup.schedules import linear_warmup, step

Make = Callable[[Optimizer], Any]
STEPS = 120


def warm_then_cosine(opt: Optimizer) -> SequentialLR:
    return SequentialLR(opt, [LinearLR(opt, 0.1, total_iters=4), CosineAnnealingLR(opt, 8)], [4])


def warm_then_decay(opt: Optimizer) -> SequentialLR:
    return SequentialLR(opt, [LinearLR(opt, 0.1, total_iters=4), ExponentialLR(opt, 0.9)], [4])


CLOSED: dict[str, Make] = {
    "StepLR": lambda o: StepLR(o, 3, 0.5),
    "StepLR to 0": lambda o: StepLR(o, 3, 0.0),
    "MultiStepLR": lambda o: MultiStepLR(o, [2, 5, 5, 6], 0.3),
    "ConstantLR": lambda o: ConstantLR(o, 0.4, 4),
    "LinearLR": lambda o: LinearLR(o, 0.1, total_iters=5),
    "LinearLR to 0": lambda o: LinearLR(o, 1.0, 0.0, total_iters=7),
    "ExponentialLR": lambda o: ExponentialLR(o, 0.9),
    "ExponentialLR to 0": lambda o: ExponentialLR(o, 0.0),
    "PolynomialLR": lambda o: PolynomialLR(o, 6, 2.0),
    "PolynomialLR root": lambda o: PolynomialLR(o, 40, 0.5),
    "CosineAnnealingLR": lambda o: CosineAnnealingLR(o, 7, 0.01),
    "CosineAnnealingLR 1": lambda o: CosineAnnealingLR(o, 1, 0.01),
    "CosineAnnealingLR 7.5": lambda o: CosineAnnealingLR(o, 7.5),  # type: ignore[arg-type]
    "WarmRestarts": lambda o: CosineAnnealingWarmRestarts(o, 3, 2, 0.001),
    "WarmRestarts alike": lambda o: CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: CyclicLR(o, 0.01, 0.2, 3, 5),
    "CyclicLR 2": lambda o: CyclicLR(o, 0.01, 0.2, 3, mode="triangular2"),
    "CyclicLR exp": lambda o: CyclicLR(o, 0.01, 0.2, 3, 5, mode="exp_range", gamma=0.99),
    "OneCycleLR": lambda o: OneCycleLR(o, 0.5, 40),
    "OneCycleLR linear": lambda o: OneCycleLR(
        o, 0.5, 37, three_phase=True, anneal_strategy="linear"
    ),
    "SWALR": lambda o: SWALR(o, 0.01, anneal_epochs=5),
    "SWALR linear": lambda o: SWALR(o, 0.01, anneal_epochs=5, anneal_strategy="linear"),
    "SWALR at once": lambda o: SWALR(o, 0.01, anneal_epochs=0),
    "LambdaLR of a Schedule": lambda o: LambdaLR(o, linear_warmup(5, 0.1).then(step(4, 0.5))),
    "Sequential": warm_then_cosine,
    "Sequential of three": lambda o: SequentialLR(
        o, [ConstantLR(o, 0.1, 4), LinearLR(o, 0.2, total_iters=9), StepLR(o, 3, 0.5)], [4, 11]
    ),
    "Sequential, cut short": lambda o: SequentialLR(
        o, [LinearLR(o, 0.1, total_iters=9), PolynomialLR(o, 5, 0.5)], [2]
    ),
    "Sequential with restarts": lambda o: SequentialLR(
        o, [LinearLR(o, 0.1, total_iters=4), CosineAnnealingWarmRestarts(o, 5, 2)], [4]
    ),
    "Sequential with a lambda": lambda o: SequentialLR(
        o, [LambdaLR(o, lambda t: 0.5**t), ExponentialLR(o, 0.9)], [6]
    ),
    "Sequential in Sequential": lambda o: SequentialLR(
        o, [warm_then_decay(o), CosineAnnealingLR(o, 8, 0.01)], [9]
    ),
    "Chained in Sequential": lambda o: SequentialLR(
        o,
        [
            ChainedScheduler([LinearLR(o, 0.1, total_iters=4), ExponentialLR(o, 0.9)]),
            CosineAnnealingLR(o, 8, 0.01),
        ],
        [9],
    ),
    "Sequential in Chained": lambda o: ChainedScheduler(
        [warm_then_decay(o), MultiStepLR(o, [10, 15], 0.1)]
    ),
    "Chained": lambda o: ChainedScheduler([ConstantLR(o, 0.1, 3), ExponentialLR(o, 0.9)]),
    "Chained warm-up and cosine": lambda o: ChainedScheduler(
        [LinearLR(o, 0.1, total_iters=3), CosineAnnealingLR(o, 20, 0.001)]
    ),
    "Chained exponentials": lambda o: ChainedScheduler(
        [ExponentialLR(o, 0.95), ExponentialLR(o, 0.9), ConstantLR(o, 0.5, 7)]
    ),
}
SAMPLED: dict[str, Make] = {
    "LambdaLR": lambda o: LambdaLR(o, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda o: MultiplicativeLR(o, lambda t: 0.9 + 0.001 * t),
    "CyclicLR of one's own": lambda o: CyclicLR(o, 0.01, 0.2, 3, scale_fn=lambda x: 1 / x),
    "Chained for ever": lambda o: ChainedScheduler([StepLR(o, 3, 0.5), ExponentialLR(o, 0.9)]),
    "Chained cosines": lambda o: ChainedScheduler(
        [CosineAnnealingLR(o, 9), CosineAnnealingLR(o, 5)]
    ),
}


def optimizer(*rates: float) -> torch.optim.SGD:
    params = [torch.zeros(1, requires_grad=True) for _ in rates]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(params, rates, strict=True)]
    opt = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    opt._opt_called = True  # so that torch does not miss our steps
    return opt


def rates_of(opt: Optimizer, scheduler: LRScheduler, steps: int, group: int = 0) -> list[float]:
    """The rates that torch gives, as far as it goes."""
    rates = [float(opt.param_groups[group]["lr"])]
    for _ in range(steps - 1):
        try:
            scheduler.step()
        except ValueError:  # OneCycleLR is over
            break
        rates.append(float(opt.param_groups[group]["lr"]))
    return rates


def check(schedule: Schedule, base: float, expected: list[float]) -> None:
    """Compare with torch's rates; where OneCycleLR ends below 0, one step too late, ours is 0."""
    expected = [max(rate, 0.0) for rate in expected]
    largest = base  # what torch's recursions have rounded: chained cosines rise far above the base
    for t, rate in enumerate(expected):
        largest = max(largest, abs(rate))
        assert abs(base * schedule(t) - rate) <= 1e-12 * largest, t


def test_no_scheduler_of_torchs_is_missing() -> None:
    names = " ".join([*CLOSED, *SAMPLED, "ReduceLROnPlateau"])
    names = names.replace("WarmRestarts", "CosineAnnealingWarmRestarts")
    names += " SequentialLR ChainedScheduler"
    assert {n for n in lr_scheduler.__all__ if n != "LRScheduler"} <= set(names.split())


@pytest.mark.parametrize("make", CLOSED.values(), ids=CLOSED)
def test_closed_forms_are_torchs_at_every_step(make: Make) -> None:
    opt = optimizer(0.1)
    scheduler = make(opt)
    schedule = from_torch(scheduler)
    assert schedule.steps is None
    tables = [len(s.values) for s in schedule.segments if s.values and not s.period]
    assert sum(tables) < 10
    base = opt.param_groups[0]["initial_lr"]
    check(schedule, base, rates_of(opt, scheduler, STEPS))
    assert Schedule.from_dict(schedule.to_dict()) == schedule


@pytest.mark.parametrize("make", SAMPLED.values(), ids=SAMPLED)
def test_what_has_no_closed_form_is_sampled(make: Make) -> None:
    opt = optimizer(0.1)
    scheduler = make(opt)
    with pytest.raises(ValueError, match="steps="):
        from_torch(scheduler)
    schedule = from_torch(scheduler, steps=STEPS)
    assert schedule.steps == STEPS
    expected = rates_of(opt, scheduler, STEPS)
    base = opt.param_groups[0]["initial_lr"]
    check(schedule, base, expected)
    assert schedule(10**6) == schedule(STEPS - 1)


@pytest.mark.parametrize("done", [1, 3, 11])
@pytest.mark.parametrize("make", CLOSED.values(), ids=CLOSED)
def test_starts_at_the_beginning_and_leaves_the_scheduler_alone(make: Make, done: int) -> None:
    opt = optimizer(0.1)
    scheduler = make(opt)
    fresh = from_torch(scheduler)
    for _ in range(done):
        scheduler.step()
    before = repr((state_of(scheduler), opt.state_dict()))
    assert from_torch(scheduler) == fresh
    assert repr((state_of(scheduler), opt.state_dict())) == before


def state_of(scheduler: Any) -> list[Any]:
    inner = [state_of(each) for each in getattr(scheduler, "_schedulers", ())]
    own = {k: v for k, v in vars(scheduler).items() if k not in ("optimizer", "_schedulers")}
    return [own, *inner]


def leaf(kind: int, n: int, f: float) -> Make:
    return [
        lambda o: StepLR(o, n, f),
        lambda o: MultiStepLR(o, [n, 2 * n + 1], f),
        lambda o: ConstantLR(o, f, n),
        lambda o: LinearLR(o, f, 1.0, n),
        lambda o: LinearLR(o, 1.0, f, n),
        lambda o: ExponentialLR(o, f),
        lambda o: PolynomialLR(o, n, 2 * f),
        lambda o: CosineAnnealingLR(o, n, 0.03 * f),
        lambda o: CosineAnnealingWarmRestarts(o, n, 1 + n % 3),
    ][kind]


leaves = st.builds(leaf, st.integers(0, 8), st.integers(1, 12), st.floats(0.05, 0.95))


def sequence(makes: list[Make], gaps: list[int]) -> Make:
    milestones = [sum(gaps[: i + 1]) for i in range(len(makes) - 1)]
    return lambda o: SequentialLR(o, [make(o) for make in makes], milestones)


def chain(makes: list[Make], _: list[int]) -> Make:
    return lambda o: ChainedScheduler([make(o) for make in makes])


trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda f, makes, gaps: f(makes, gaps),
        st.sampled_from([sequence, chain]),
        st.lists(inner, min_size=1, max_size=3),
        st.lists(st.integers(1, 9), min_size=2, max_size=2),
    ),
    max_leaves=5,
)


@settings(max_examples=settings.default.max_examples * 3 // 2)
@given(trees)
@example(chain([leaf(7, 9, 0.5), leaf(7, 9, 0.5), leaf(7, 8, 0.5)], []))  # 1,884 times the base
def test_any_nest_of_them_is_torchs(make: Make) -> None:
    """Bugs included: torch's errors are raised by the conversion too."""
    opt = optimizer(0.1)
    opt.step()
    try:
        scheduler = make(opt)
        expected = rates_of(*(lambda o: (o, make(o)))(optimizer(0.1)), 60)
    except (NotImplementedError, AttributeError, ZeroDivisionError) as error:
        with pytest.raises(type(error)):
            from_torch(make(opt), steps=60)
        return
    assume(all(map(math.isfinite, expected)))
    if min(expected) < -1e-15:
        with pytest.raises(ValueError, match="factors must be at least 0"):
            from_torch(scheduler, steps=60)
        return
    check(from_torch(scheduler, steps=60), 0.1, expected)
    with contextlib.suppress(ValueError):  # two that never end have no closed form
        check(from_torch(scheduler), 0.1, expected)


def test_rates_below_zero_are_refused() -> None:
    """Torch climbs there: a cosine that was brought below its own lowest rate goes on downwards."""
    opt = optimizer(0.1)
    scheduler = ChainedScheduler([CosineAnnealingLR(opt, 9), CosineAnnealingLR(opt, 5, 0.01)])
    with pytest.raises(ValueError, match="factors must be at least 0"):
        from_torch(scheduler, steps=STEPS)
    assert rates_of(opt, scheduler, 10)[7] < -1e-3


def test_groups_that_scale_share_a_schedule() -> None:
    opt = optimizer(0.1, 0.3)
    scheduler = warm_then_cosine(opt)
    assert from_torch(scheduler) == from_torch(scheduler, group=1)


def test_groups_that_differ_have_their_own() -> None:
    opt = optimizer(0.1, 0.3)
    scheduler = CosineAnnealingLR(opt, 9, eta_min=0.02)
    with pytest.raises(ValueError, match="group="):
        from_torch(scheduler)
    for group, base in enumerate((0.1, 0.3)):
        schedule = from_torch(scheduler, group=group)
        mine = optimizer(0.1, 0.3)
        expected = rates_of(mine, CosineAnnealingLR(mine, 9, eta_min=0.02), 40, group)
        check(schedule, base, expected)
    lambdas = [lambda t: 0.5**t, lambda t: 0.9**t]
    schedule = from_torch(LambdaLR(opt, lambdas), group=1, steps=9)
    assert schedule(5) == pytest.approx(0.9**5, rel=1e-15)


def test_another_base_rate() -> None:
    opt = optimizer(0.1)
    scheduler = OneCycleLR(opt, 0.5, 30)
    schedule = from_torch(scheduler, lr=0.5)
    assert max(schedule(range(30))) == pytest.approx(1.0, abs=1e-12)
    check(schedule, 0.5, rates_of(opt, scheduler, 30))
    cyclic = CyclicLR(optimizer(0.1), 0.0, 0.2, 4)
    with pytest.raises(ValueError, match="lr="):
        from_torch(cyclic)
    assert from_torch(cyclic, lr=0.2)(4) == 1.0


def test_a_tensor_rate() -> None:
    parameter = torch.zeros(1, requires_grad=True)
    opt = torch.optim.SGD([parameter], lr=torch.tensor(0.5, dtype=torch.float64))
    assert from_torch(ExponentialLR(opt, 0.5))(3) == pytest.approx(0.125, rel=1e-15)


class Sawtooth(LRScheduler):
    """Somebody's own."""

    def get_lr(self) -> list[float | torch.Tensor]:
        return [base * (1 + self.last_epoch % 3) for base in self.base_lrs]


def test_a_class_of_ones_own_is_sampled() -> None:
    opt = optimizer(0.25, 0.5)
    schedule = from_torch(Sawtooth(opt), steps=7)
    assert schedule(range(8)) == [1, 2, 3, 1, 2, 3, 1, 1]
    with pytest.raises(ValueError, match="Sawtooth"):
        from_torch(Sawtooth(opt))


def test_a_plateau_stays_on_the_host() -> None:
    opt = optimizer(0.1)
    with pytest.raises(TypeError, match=r'whose group\["lr"\] it may set'):
        from_torch(ReduceLROnPlateau(opt))
    with pytest.raises(TypeError, match="from_callable"):
        from_torch(lambda t: 1.0)


def test_once_an_epoch() -> None:
    opt = optimizer(0.1)
    per_epoch = from_torch(warm_then_cosine(opt))
    schedule = per_epoch.stretched(5)
    assert schedule(range(200)) == pytest.approx(
        [per_epoch(t // 5) for t in range(200)], rel=0, abs=1e-15
    )
    sampled = from_torch(LambdaLR(opt, lambda t: 0.5**t), steps=4).stretched(3)
    assert (sampled.steps, sampled(range(13))) == (12, [0.5 ** min(t // 3, 3) for t in range(13)])


def test_is_exported() -> None:
    assert fused_warmup.from_torch is from_torch


def test_a_lambda_may_return_a_tensor() -> None:
    opt = optimizer(0.1)
    scheduler = LambdaLR(opt, lambda t: torch.tensor(0.5, dtype=torch.float64) ** t)
    assert from_torch(scheduler, steps=4)(range(4)) == [1.0, 0.5, 0.25, 0.125]
