"""What convert leaves behind tells who still uses it; several schedulers come along."""

import copy
import pickle
from typing import Any

import pytest
import torch
from support import models, set_grads
from support.timm_stand_in import StepLRScheduler
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ExponentialLR,
    LinearLR,
    ReduceLROnPlateau,
    StepLR,
)

from fused_warmup import SGD, convert

DEAD_RATE = (
    r"the learning rate was set of a torch.optim.SGD that convert\(\) has replaced.*scheduler.step"
)
DEAD_STEP = r"step\(\) was called of a torch.optim.SGD that convert\(\) has replaced"


def make() -> torch.optim.SGD:
    return torch.optim.SGD(models((3,)), lr=1.0, momentum=0.9)


def train(opt: torch.optim.Optimizer, steps: int, *schedulers: Any) -> list[float]:
    """The rates of the steps; a plateau is told that nothing gets better."""
    rates = []
    for t in range(steps):
        set_grads(opt.param_groups[0]["params"], t)
        used = opt.param_groups[0]["lr"]
        opt.step()
        rates.append(opt.get_last_lr()[0] if isinstance(opt, SGD) else used)
        for each in schedulers:
            each.step(*([1.0] if isinstance(each, ReduceLROnPlateau) else []))
    return rates


def test_the_old_schedulers_step_is_told_once() -> None:
    old = make()
    scheduler = LinearLR(old, 0.1, total_iters=8)
    fused = convert(old, scheduler)
    with pytest.warns(UserWarning, match=DEAD_RATE) as caught:
        rates = train(fused, 4, scheduler)
    assert len(caught) == 1
    assert rates == pytest.approx([0.1 + 0.9 * t / 8 for t in range(4)])


def test_the_old_optimizers_step_is_told_once() -> None:
    old = make()
    fused = convert(old)
    train(fused, 1)
    with pytest.warns(UserWarning, match=DEAD_STEP) as caught:
        train(old, 3)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_plateau_that_was_left_behind_is_told() -> None:
    old = make()
    warmup, plateau = LinearLR(old, 0.1, total_iters=8), ReduceLROnPlateau(old, patience=0)
    fused = convert(old, warmup)
    with pytest.warns(UserWarning, match=r"convert\(optimizer, \[scheduler, plateau\]\)"):
        train(fused, 4, plateau)


def test_a_scheduler_built_over_the_old_optimizer_is_told() -> None:
    old = make()
    convert(old)
    with pytest.warns(UserWarning, match=DEAD_RATE):
        StepLR(old, 2)


def test_the_old_optimizer_can_be_read_saved_and_copied() -> None:
    old = make()
    scheduler = LinearLR(old, 0.1, total_iters=8)
    train(old, 2, scheduler)
    before = copy.deepcopy(old.state_dict())
    convert(old, scheduler)
    assert repr(old.state_dict()) == repr(before)
    for twin in (copy.deepcopy(old), pickle.loads(pickle.dumps(old))):
        assert type(twin.param_groups[0]) is dict
        train(twin, 1)
        twin.param_groups[0]["lr"] = 0.5
    again = copy.deepcopy(scheduler)
    again.step()
    pickle.dumps(scheduler)
    fused = convert(old, scheduler)  # twice is as well as once
    assert fused.steps_applied == 2


@pytest.mark.parametrize("done", [0, 3])
def test_a_warmup_with_a_plateau_beside_it(done: int) -> None:
    """The issue's case: the plateau moves on to the new optimizer, and the rates are torch's."""
    runs = []
    for _ in range(2):
        opt = make()
        schedulers = LinearLR(opt, 0.1, total_iters=4), ReduceLROnPlateau(opt, patience=1)
        train(opt, done, *schedulers)
        runs.append((opt, schedulers))
    (old, (warmup, plateau)), (theirs, others) = runs
    fused = convert(old, [warmup, plateau])
    assert plateau.optimizer is fused
    assert fused.steps_applied == done
    rates = train(fused, 12, plateau)
    assert rates == pytest.approx(train(theirs, 12, *others), rel=1e-12)
    assert len({round(rate, 9) for rate in rates[4 - done :]}) > 2


def test_two_that_multiply() -> None:
    runs = []
    for _ in range(2):
        opt = make()
        runs.append((opt, [LinearLR(opt, 0.1, total_iters=4), ExponentialLR(opt, 0.9)]))
    (old, schedulers), (theirs, others) = runs
    fused = convert(old, schedulers)
    assert train(fused, 9) == pytest.approx(train(theirs, 9, *others), rel=1e-12)
    chained = make()
    inside = [LinearLR(chained, 0.1, total_iters=4), ExponentialLR(chained, 0.9)]
    twin = convert(chained, ChainedScheduler(inside))
    assert twin.param_groups[0]["schedule"] == fused.param_groups[0]["schedule"]


def test_an_empty_list_is_none() -> None:
    assert convert(make(), []).param_groups[0]["schedule"] is None
    assert convert(make(), (None,)).param_groups[0]["schedule"] is None


def test_two_on_different_clocks_are_refused() -> None:
    old = make()
    first, second = LinearLR(old, 0.1, total_iters=8), ExponentialLR(old, 0.9)
    train(old, 3, first)
    with pytest.raises(ValueError, match=r"LinearLR and ExponentialLR were stepped \[3, 0\] times"):
        convert(old, [first, second])
    train(old, 1, first)  # nothing is replaced: no warning


def test_one_over_another_optimizer_is_refused() -> None:
    old, other = make(), make()
    with pytest.raises(ValueError, match="ExponentialLR drives another optimizer"):
        convert(old, [LinearLR(old), ExponentialLR(other, 0.9)])


def timms(**options: Any) -> tuple[torch.optim.SGD, StepLRScheduler]:
    weight, bias = models((3,), (2,))
    groups = [{"params": [weight]}, {"params": [bias], "lr": 0.2, "lr_scale": 0.5}]
    opt = torch.optim.SGD(groups, lr=0.4, momentum=0.9)
    return opt, StepLRScheduler(opt, decay_t=4, warmup_t=3, **options)


def test_timms_scheduler_simply_works() -> None:
    """Its optimizer holds the warm-up's rate by now, a fortieth of what was asked for."""
    (old, scheduler), (theirs, other) = timms(), timms()
    assert old.param_groups[0]["lr"] == 0.01
    fused = convert(old, scheduler)
    for t in range(12):
        for opt in (fused, theirs):
            set_grads([p for group in opt.param_groups for p in group["params"]], t)
            opt.step()
        used = [group["lr"] for group in theirs.param_groups]
        assert fused.get_last_lr() == pytest.approx(used, rel=1e-12)
        other.step_update(t + 1)
    with pytest.warns(UserWarning, match=DEAD_RATE):
        scheduler.step_update(1)


def test_timms_epochs_want_their_length() -> None:
    old, scheduler = timms(t_in_epochs=True)
    with pytest.raises(TypeError, match=r"counts epochs.*steps_per_epoch="):
        convert(old, scheduler)
    fused = convert(old, scheduler, steps_per_epoch=2)
    assert train(fused, 8) == pytest.approx([0.01, 0.01, 0.14, 0.14, 0.27, 0.27, 0.4, 0.4])


def test_timms_scheduler_under_way_is_refused() -> None:
    old, scheduler = timms()
    scheduler.step_update(2)
    with pytest.raises(ValueError, match=r"do not count their steps.*before the first one"):
        convert(old, scheduler)
    scheduler.step_update(3)  # nothing is replaced: no warning


def test_timms_scheduler_beside_another_is_refused() -> None:
    old, scheduler = timms()
    with pytest.raises(ValueError, match="one of them is timm's or ignite's, which must be alone"):
        convert(old, [scheduler, ExponentialLR(old, 0.9)])


def test_timms_scheduler_of_the_momentum_is_refused() -> None:
    old, scheduler = timms()
    scheduler.param_group_field = "momentum"
    with pytest.raises(ValueError, match="moves 'momentum', only the rate"):
        convert(old, scheduler)


def test_timms_scheduler_with_a_plateau() -> None:
    old, scheduler = timms()
    plateau = ReduceLROnPlateau(old, patience=0)
    fused = convert(old, [scheduler, plateau])
    assert train(fused, 4, plateau) == pytest.approx([0.01, 0.14, 0.27 * 0.1, 0.4 * 0.01])
