"""ildoonet's, katsura-jp's and Bolts' schedulers: their rates, from any step on, as formulas."""

from typing import Any

import pytest
import torch
from support import set_grads
from support.library_schedulers import (
    CASES,
    CUT,
    CosineAnnealingWarmupRestarts,
    GradualWarmupScheduler,
    LinearWarmupCosineAnnealingLR,
    Make,
)
from support.own_schedulers import optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from fused_warmup import SGD, convert, from_torch
from fused_warmup.schedules import Kind

STEPS = 90
pytestmark = pytest.mark.filterwarnings("ignore:To get the last learning rate:UserWarning")
goes_on_as_an_oracle = pytest.mark.filterwarnings(
    "ignore:the learning rate was set of a torch.optim.SGD"
)


def rates(scheduler: Any, steps: int = STEPS) -> list[list[float]]:
    """The rates of all groups at its next steps, the present ones first."""
    found = [[float(group["lr"]) for group in scheduler.optimizer.param_groups]]
    for _ in range(steps - 1):
        scheduler.step()
        found.append([float(group["lr"]) for group in scheduler.optimizer.param_groups])
    return found


def near(rate: float) -> Any:
    return pytest.approx(rate, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_from_torch_states_all_of_it(name: str) -> None:
    """However far it has got: its course is the same."""
    expected = rates(CASES[name](optimizer()))
    for done in (0, 7, 60):
        scheduler = CASES[name](opt := optimizer())
        rates(scheduler, done + 1)
        for i, group in enumerate(opt.param_groups):
            schedule = from_torch(scheduler, group=i)
            assert schedule.steps is None
            for t in range(STEPS):
                assert group["initial_lr"] * schedule(t) == near(expected[t][i]), (done, t)


@pytest.mark.parametrize("name", CUT)
def test_some_need_a_length(name: str) -> None:
    expected = rates(CUT[name](optimizer()))
    scheduler = CUT[name](opt := optimizer())
    rates(scheduler, 20)
    with pytest.raises(ValueError, match="pass steps="):
        from_torch(scheduler, group=0)
    schedule = from_torch(scheduler, steps=STEPS, group=0)
    for t in range(STEPS):
        assert opt.param_groups[0]["initial_lr"] * schedule(t) == near(expected[t][0]), t


@goes_on_as_an_oracle
@pytest.mark.parametrize("name", [*CASES, *CUT])
def test_convert_goes_on_from_any_step(name: str) -> None:
    for done in (0, 6, 37):
        scheduler = {**CASES, **CUT}[name](opt := optimizer())
        rates(scheduler, done + 1)
        fused = convert(opt, scheduler, steps=None if name in CASES else STEPS)
        assert fused.steps_applied == done
        check_the_rest(fused, scheduler, STEPS - done)


def check_the_rest(fused: SGD, scheduler: Any, steps: int) -> None:
    for t, expected in enumerate(rates(scheduler, steps)):
        set_grads([p for group in fused.param_groups for p in group["params"]], t)
        fused.step()
        found = fused.get_last_lr()
        assert found == [near(rate) for rate in expected], t


@goes_on_as_an_oracle
@pytest.mark.parametrize("name", ["gradual, then CosineAnnealingLR", "gradual, then StepLR"])
def test_a_rate_that_was_changed_by_hand_is_gone_on_from(name: str) -> None:
    for done in (3, 14):
        scheduler = CASES[name](opt := optimizer())
        rates(scheduler, done)
        for group in opt.param_groups:
            group["lr"] *= 0.5
        check_the_rest(convert(opt, scheduler), scheduler, 40)


def test_the_segments_are_few() -> None:
    kinds = {
        name: [segment.kind for segment in from_torch(make(optimizer()), group=0).segments]
        for name, make in CASES.items()
    }
    assert kinds["gradual, alone"] == [Kind.POLY]
    assert kinds["gradual, then StepLR"] == [Kind.POLY, Kind.EXP]
    assert kinds["warm-up and cosine (10, 40)"] == [Kind.POLY, Kind.COS]
    assert kinds["restarts {'first_cycle_steps': 20, 'warmup_steps': 5}"] == [Kind.TABLE]
    assert max(map(len, kinds.values())) < 256


NESTS: list[Make] = [
    lambda o: SequentialLR(
        o, [ConstantLR(o, 0.1, 4), LinearWarmupCosineAnnealingLR(o, 3, 20)], [4]
    ),
    lambda o: SequentialLR(
        o, [LinearWarmupCosineAnnealingLR(o, 3, 20), ExponentialLR(o, 0.9)], [23]
    ),
    lambda o: ChainedScheduler([GradualWarmupScheduler(o, 4.0, 10), StepLR(o, 15, 0.5)]),
    lambda o: GradualWarmupScheduler(o, 2.0, 5, LinearWarmupCosineAnnealingLR(o, 3, 20, 0.01)),
    lambda o: GradualWarmupScheduler(o, 2.0, 5, CosineAnnealingWarmupRestarts(o, 12, 2.0)),
]


@goes_on_as_an_oracle
@pytest.mark.parametrize("make", NESTS)
def test_inside_others(make: Make) -> None:
    expected = rates(make(optimizer()))
    for done in (0, 6, 30):
        scheduler = make(opt := optimizer())
        rates(scheduler, done + 1)
        schedule = from_torch(scheduler, steps=STEPS, group=1)
        for t in range(STEPS):
            assert opt.param_groups[1]["initial_lr"] * schedule(t) == near(expected[t][1]), t
        check_the_rest(convert(opt, scheduler, steps=STEPS), scheduler, STEPS - done)


def test_two_that_set_one_rate_need_a_length() -> None:
    with pytest.raises(ValueError, match=r"change one rate without end.*pass steps="):
        from_torch(NESTS[2](optimizer()), group=0)


def test_a_class_of_ones_own_is_run_ahead() -> None:
    class Floored(CosineAnnealingWarmupRestarts):
        def get_lr(self) -> list[Any]:
            return [max(rate, 0.05) for rate in super().get_lr()]

    expected = rates(Floored(optimizer(), 10, warmup_steps=3))
    with pytest.raises(ValueError, match="Floored has no closed form"):
        from_torch(Floored(optimizer(), 10, warmup_steps=3), group=0)
    scheduler = Floored(opt := optimizer(), 10, warmup_steps=3)
    schedule = from_torch(scheduler, steps=STEPS, group=0)
    for t in range(STEPS):
        assert opt.param_groups[0]["initial_lr"] * schedule(t) == near(expected[t][0])


def test_what_cannot_be_converted_says_why() -> None:
    opt = optimizer()
    with pytest.raises(TypeError, match="ReduceLROnPlateau follows a metric"):
        from_torch(GradualWarmupScheduler(opt, 2.0, 5, ReduceLROnPlateau(opt)))
    then = SequentialLR(opt, [StepLR(opt, 3), CosineAnnealingLR(opt, 5)], [6])
    with pytest.raises(TypeError, match=r"SequentialLR does not take.*then\(from_torch"):
        from_torch(GradualWarmupScheduler(opt, 2.0, 5, then))
    with pytest.raises(ValueError, match="divides by 0 at its own step 11"):
        from_torch(LinearWarmupCosineAnnealingLR(opt, 10, 10), steps=20, group=0)
    with pytest.raises(ValueError, match="divides by 0"):
        from_torch(CosineAnnealingWarmupRestarts(opt, 3, 0.5), steps=20, group=0)


def test_the_scheduler_is_left_alone() -> None:
    for make in CASES.values():
        scheduler, twin = make(optimizer()), make(optimizer())
        rates(scheduler, 8)
        rates(twin, 8)
        from_torch(scheduler, group=0)
        assert rates(scheduler, 30) == rates(twin, 30)


def test_groups_without_a_rate_of_their_own_need_one() -> None:
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0)
    scheduler = CosineAnnealingWarmupRestarts(opt, 10, max_lr=0.5, min_lr=0.1)
    with pytest.raises(ValueError, match="pass lr="):
        from_torch(scheduler)
    assert 0.5 * from_torch(scheduler, lr=0.5)(5) == near(0.3)
