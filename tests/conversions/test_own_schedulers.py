"""Schedulers that are not torch's own: run as they are, on a copy, or refused."""

import argparse
import gc
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from support import own_schedulers, set_grads
from support.own_schedulers import FUNCTIONS, OWN, DropsAfter100Calls, optimizer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiplicativeLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from fused_warmup import Schedule, convert, from_torch, momentum_from_torch

STEPS = 160
goes_on_as_an_oracle = pytest.mark.filterwarnings(
    "ignore:the learning rate was set of a torch.optim.SGD"
)


@pytest.fixture(autouse=True)
def forget() -> None:
    own_schedulers.global_calls = 0
    own_schedulers.global_log.clear()
    own_schedulers.CountsInItsClass.calls = 0
    own_schedulers.CountsInItsClass.history.clear()
    gc.collect()
    own_schedulers.closed.clear()
    random.seed(3)
    torch.manual_seed(3)


@pytest.mark.parametrize("name", OWN)
def test_a_fresh_one_gives_torchs_rates(name: str) -> None:
    scheduler = OWN[name](opt := optimizer())
    schedules = [from_torch(scheduler, steps=STEPS, group=i) for i in range(2)]
    # After the conversions, so that a conversion which moved the scheduler would show.
    expected = [[float(group["lr"]) for group in opt.param_groups]]
    for _ in range(STEPS - 1):
        scheduler.step()
        expected.append([float(group["lr"]) for group in opt.param_groups])
    for i, base in enumerate((0.1, 0.2)):
        base = opt.param_groups[i]["initial_lr"]
        found = [base * factor for factor in schedules[i](range(STEPS))]
        assert found == pytest.approx([row[i] for row in expected], rel=1e-12)
    assert len({row[0] for row in expected}) > 1


@goes_on_as_an_oracle
@pytest.mark.parametrize("done", [0, 1, 20, 130])
@pytest.mark.parametrize("name", OWN)
def test_convert_goes_on_from_where_it_is(name: str, done: int) -> None:
    scheduler = OWN[name](opt := optimizer())
    for _ in range(done):
        opt.step()
        scheduler.step()
    fused = convert(opt, scheduler, steps=STEPS)
    assert fused.steps_applied == done
    for t in range(done, STEPS):
        params = [p for group in fused.param_groups for p in group["params"]]
        set_grads(params, t)
        fused.step()
        expected = [float(group["lr"]) for group in opt.param_groups]
        assert fused.get_last_lr() == pytest.approx(expected, rel=1e-12), t
        scheduler.step()


def test_the_drop_comes_where_torch_has_it() -> None:
    scheduler = DropsAfter100Calls(opt := optimizer())
    schedule = from_torch(scheduler, steps=300)
    assert [schedule(t) for t in (99, 100, 101, 10**6)] == pytest.approx([1.0, 0.1, 0.1, 0.1])
    for _ in range(20):
        scheduler.step()
    fused = convert(opt, scheduler, steps=300)
    later = fused.param_groups[0]["schedule"]
    assert [later["segments"][0].get("start", 0), fused.steps_applied] == [0, 20]
    assert scheduler.calls == 21  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", OWN)
def test_one_that_has_run_is_not_started_over(name: str) -> None:
    scheduler = OWN[name](optimizer())
    for _ in range(20):
        scheduler.step()
    with pytest.raises(ValueError, match=r"20 steps in.*convert"):
        from_torch(scheduler, steps=STEPS)


@pytest.mark.parametrize("name", OWN)
def test_a_length_is_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match=r"pass steps="):
        from_torch(OWN[name](optimizer()))


def known_by_reading() -> dict[str, Callable[[int], float]]:
    options = argparse.Namespace(warmup=10, power=0.9)
    milestones, base = [30, 60], 0.5
    table = {"gamma": 0.9}

    def helper(t: int) -> float:
        return base**t

    return {
        "a namespace": lambda t: min(1.0, (t + 1) / options.warmup) ** options.power,
        "a list": lambda t: 0.1 ** sum(t >= m for m in milestones),
        "a dict": lambda t: table["gamma"] ** t,
        "another function": lambda t: 1 - helper(t),
        "a builtin": float,
        "a partial": partial(pow, 0.5),
    }


@pytest.mark.parametrize("name", known_by_reading())
def test_a_function_that_only_reads_can_start_over(name: str) -> None:
    function = known_by_reading()[name]
    scheduler = LambdaLR(optimizer(), function)
    for _ in range(20):
        scheduler.step()
    schedule = from_torch(scheduler, steps=STEPS)
    assert schedule(range(STEPS)) == pytest.approx([float(function(t)) for t in range(STEPS)])


def test_a_subclass_that_only_builds_is_torchs() -> None:
    class Halving(ExponentialLR):
        """Every step."""

        def __init__(self, optimizer: Optimizer) -> None:
            super().__init__(optimizer, 0.5)

    scheduler = Halving(optimizer())
    scheduler.step()
    assert from_torch(scheduler)(range(3)) == pytest.approx([1.0, 0.5, 0.25], rel=1e-15)


def test_a_method_put_on_the_object_counts() -> None:
    scheduler = ExponentialLR(optimizer(), 0.5)
    scheduler.get_lr = lambda: [0.05, 0.1]  # type: ignore[method-assign]
    assert from_torch(scheduler, steps=4)(range(4)) == pytest.approx([1.0, 0.5, 0.5, 0.5])


def test_a_property_in_the_place_of_an_attribute_counts() -> None:
    class Slowing(ExponentialLR):
        def get_gamma(self) -> float:
            return 1 - 0.5 / (1 + self.last_epoch)

        gamma = property(get_gamma, lambda self, value: None)  # type: ignore[assignment]

    opt = optimizer()
    scheduler = Slowing(opt, 0.5)
    schedule = from_torch(scheduler, steps=9, group=0)
    for t in range(9):
        assert 0.1 * schedule(t) == pytest.approx(opt.param_groups[0]["lr"], rel=1e-12)
        scheduler.step()


def state_of(scheduler: Any) -> str:
    inner = [state_of(each) for each in getattr(scheduler, "_schedulers", ())]
    own = {k: v for k, v in vars(scheduler).items() if k not in ("optimizer", "_schedulers")}
    return repr((own, inner))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_remembers_is_left_alone(name: str) -> None:
    function = FUNCTIONS[name]()
    twin = FUNCTIONS[name]() if "global" not in name else None
    schedulers = [
        LambdaLR(optimizer(), function),
        MultiplicativeLR(optimizer(), function),
        CyclicLR(optimizer(), 0.01, 0.2, 3, scale_fn=function),
    ]
    for scheduler in schedulers:
        from_torch(scheduler, steps=70, group=0)
        convert(scheduler.optimizer, scheduler, steps=70)
        if isinstance(scheduler, CyclicLR):
            momentum_from_torch(scheduler, steps=70)
    if twin is None:
        assert own_schedulers.global_calls + len(own_schedulers.global_log) == 4 + 2
    elif name == "iterator":
        assert function(0) == 0.99**6
    else:
        # LambdaLR asks for both groups when it is built, CyclicLR too, twice for the momentum.
        calls = 2 + 4
        assert [function(0) for _ in range(61 - calls)].count(0.5) == 1


def test_a_copy_leaves_no_trace_in_classes_objects_and_random_numbers() -> None:
    own = own_schedulers.CountsInItsClass
    scheduler, trainer = own(optimizer()), own_schedulers.Trainer(optimizer())
    history, calls = own.history, trainer.calls
    drawing = [OWN[name](optimizer()) for name in ("draws from all", "draws from torch")]
    python, torchs = random.getstate(), torch.get_rng_state()
    for each in (scheduler, trainer.scheduler, *drawing):
        from_torch(each, steps=40, group=0)
        convert(each.optimizer, each, steps=40)
    assert own.history is history
    assert (own.calls, history, trainer.calls) == (1, [0], calls)
    assert own_schedulers.closed == []
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), torchs)


class CountsNothing(LRScheduler):
    """Never tells its base class of a step."""

    n = 0

    def step(self, epoch: int | None = None) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * 0.9**self.n
        self.n += 1


@goes_on_as_an_oracle
def test_one_that_does_not_count_can_only_go_on() -> None:
    scheduler = CountsNothing(opt := optimizer())
    with pytest.raises(ValueError, match=r"CountsNothing does not count .* last_epoch"):
        from_torch(scheduler, steps=9)
    for _ in range(3):
        scheduler.step()
    fused = convert(opt, scheduler, steps=9)
    for _ in range(6):
        set_grads([p for group in fused.param_groups for p in group["params"]], 0)
        fused.step()
        expected = [group["lr"] for group in opt.param_groups]
        assert fused.get_last_lr() == pytest.approx(expected, rel=1e-12)
        scheduler.step()


class Cycle(OneCycleLR):
    def get_lr(self) -> list[Any]:
        return [0.5 * rate for rate in super().get_lr()]


@goes_on_as_an_oracle
@pytest.mark.parametrize("done", [0, 7])
def test_a_momentum_that_is_cycled_by_ones_own(done: int) -> None:
    scheduler = Cycle(opt := optimizer(), 0.5, 30)
    if done == 0:
        schedule = momentum_from_torch(scheduler, steps=30, momentum=0.95)
        assert schedule is not None
    for _ in range(done):
        scheduler.step()
    if done:
        with pytest.raises(ValueError, match="7 steps in"):
            momentum_from_torch(scheduler, steps=30)
    fused = convert(opt, scheduler, steps=30)
    for t in range(done, 30):
        momentum, rate = opt.param_groups[1]["momentum"], opt.param_groups[1]["lr"]
        if done == 0:
            assert 0.95 * schedule(t) == pytest.approx(momentum, rel=1e-12)  # type: ignore[misc]
        group = fused.param_groups[1]
        factor = Schedule.from_dict(group["momentum_schedule"])(t)
        assert group["momentum"] * factor == pytest.approx(momentum, rel=1e-12)
        set_grads([p for g in fused.param_groups for p in g["params"]], t)
        fused.step()
        assert fused.get_last_lr()[1] == pytest.approx(rate, rel=1e-12)
        if t < 29:
            scheduler.step()


def test_a_known_one_is_not_accepted_for_one_rate() -> None:
    """An inner clock that somebody moved: the rate is that of the course, what comes is not."""
    runs = []
    for _ in range(2):
        opt = optimizer()
        scheduler = SequentialLR(opt, [ConstantLR(opt, 0.5, 2), StepLR(opt, 10, 0.5)], [2])
        for _ in range(6):
            scheduler.step()
        scheduler._schedulers[1].last_epoch = 8
        runs.append((opt, scheduler))
    (opt, scheduler), (old, theirs) = runs
    fused = convert(opt, scheduler)
    for t in range(6, 30):
        set_grads([p for group in fused.param_groups for p in group["params"]], t)
        fused.step()
        expected = [float(group["lr"]) for group in old.param_groups]
        assert fused.get_last_lr() == pytest.approx(expected, rel=1e-12), t
        theirs.step()


def test_restarts_whose_cycle_was_moved() -> None:
    from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

    runs = []
    for _ in range(2):
        opt = optimizer()
        scheduler = CosineAnnealingWarmRestarts(opt, 6)
        scheduler.step(9)  # T_cur is 3, as after the third step
        runs.append((opt, scheduler))
    (opt, scheduler), (old, theirs) = runs
    scheduler.T_i = theirs.T_i = 12
    fused = convert(opt, scheduler)
    for t in range(30):
        set_grads([p for group in fused.param_groups for p in group["params"]], t)
        fused.step()
        expected = [float(group["lr"]) for group in old.param_groups]
        assert fused.get_last_lr() == pytest.approx(expected, abs=1e-12), t
        theirs.step()
