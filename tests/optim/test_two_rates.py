"""A scheduler over a schedule: one warning, and none where both belong together."""

import copy
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import models, set_grads
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.optim.swa_utils import SWALR

from fused_warmup import SGD, from_torch, linear_warmup

PRODUCT = r"group 0 has lr=.*, which a scheduler made of 1, and its schedule.*drop the scheduler"


WARMUP = linear_warmup(8, start=0.25)


def make(schedule: Any = WARMUP) -> SGD:
    return SGD(models((3,)), lr=1.0, schedule=schedule)


def train(opt: SGD, scheduler: Any, steps: int, *metric: float) -> list[float]:
    rates = []
    for t in range(steps):
        set_grads(opt.param_groups[0]["params"], t)
        opt.step()
        scheduler.step(*metric)
        rates += opt.get_last_lr()
    return rates


def timms(opt: SGD) -> Any:
    """What timm.scheduler.Scheduler leaves in the groups; it patches no step."""
    for group in opt.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = 0.01

    def step() -> None:
        opt.param_groups[0]["lr"] += 0.01

    return SimpleNamespace(step=step)


TWICE: dict[str, Callable[[SGD], Any]] = {
    "the same warm-up": lambda opt: LinearLR(opt, 0.25, total_iters=8),
    "Hugging Face's warm-up": lambda opt: LambdaLR(opt, lambda t: min(t / 8, 1.0)),
    "a decay": lambda opt: CosineAnnealingLR(opt, 20),
    "a drop during the warm-up": lambda opt: MultiStepLR(opt, [3]),
    "SWA": lambda opt: SWALR(opt, swa_lr=0.05, anneal_epochs=2),
    "timm": timms,
}


@pytest.mark.parametrize("name", TWICE)
def test_a_scheduler_over_a_schedule_is_told_once(name: str) -> None:
    opt = make()
    scheduler = TWICE[name](opt)
    with pytest.warns(UserWarning, match=PRODUCT) as caught:
        rates = train(opt, scheduler, 6)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert rates != [WARMUP(t) for t in range(6)]


def test_a_rate_that_is_only_read_does_not_hide_a_scheduler() -> None:
    opt = make()
    scheduler = LinearLR(opt, 0.25, total_iters=8)
    assert opt.scheduler().get_last_lr() == [0.25 * 0.25]  # as a logger does
    with pytest.warns(UserWarning, match=PRODUCT):
        train(opt, scheduler, 2)


def test_where_warnings_are_errors_nothing_is_updated_then() -> None:
    opt = make()
    LinearLR(opt, 0.25, total_iters=8)
    (p,) = opt.param_groups[0]["params"]
    before = p.detach().clone()
    set_grads([p], 0)
    with pytest.raises(UserWarning, match=PRODUCT):
        opt.step()
    assert torch.equal(p, before)
    assert opt.steps_applied == 0
    opt.step()
    assert opt.steps_applied == 1


TOGETHER: dict[str, Callable[[SGD], Any]] = {
    "drops after the warm-up": lambda opt: MultiStepLR(opt, [8, 9]),
    "a scheduler that leaves the rate alone": lambda opt: LambdaLR(opt, lambda t: 1.0),
    "the schedule's own face": lambda opt: opt.scheduler(),
    "its face among others": lambda opt: SequentialLR(
        opt, [opt.scheduler(), ConstantLR(opt, 0.5, total_iters=99)], milestones=[3]
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_what_belongs_together_is_left_in_peace(name: str) -> None:
    opt = make()
    train(opt, TOGETHER[name](opt), 11)  # warnings are errors here


def test_a_plateau_is_left_in_peace() -> None:
    opt = make()
    train(opt, ReduceLROnPlateau(opt, patience=0), 6, 1.0)
    assert opt.param_groups[0]["lr"] < 0.1


def test_a_plateau_over_a_run_that_a_scheduler_began() -> None:
    """The checkpoint of torch.optim.SGD holds an initial_lr; no scheduler is at work here."""
    theirs = torch.optim.SGD(models((3,)), lr=1.0)
    LinearLR(theirs, 0.5, total_iters=8)
    opt = make(None)
    opt.load_state_dict(theirs.state_dict())
    opt.param_groups[0]["schedule"] = WARMUP
    train(opt, ReduceLROnPlateau(opt, patience=0), 6, 1.0)


def test_a_number_set_by_hand_is_left_in_peace() -> None:
    opt = make()
    opt.param_groups[0]["lr"] = 0.5
    train(opt, opt.scheduler(), 3)


def test_without_a_schedule_there_is_one_rate() -> None:
    opt = make(None)
    train(opt, LinearLR(opt, 0.25, total_iters=8), 6)
    other = make()
    with other.without_schedules():
        train(other, SWALR(other, swa_lr=0.05, anneal_epochs=2), 3)


def test_copies_look_for_themselves() -> None:
    opt = make()
    train(opt, opt.scheduler(), 2)
    twin = copy.deepcopy(opt)
    scheduler = LinearLR(twin, 0.25, total_iters=8)
    with pytest.warns(UserWarning, match=PRODUCT):
        train(twin, scheduler, 2)


LEFT = r"a group has lr=0.025, which a scheduler over another optimizer made of 1.*initial_lr"


def test_groups_with_the_rate_of_the_moment() -> None:
    """Timm's optimizer holds its warm-up rate, and so does torch's under a scheduler."""
    theirs = torch.optim.SGD(models((3,)), lr=1.0)
    scheduler = LinearLR(theirs, 0.025, total_iters=8)
    with pytest.warns(UserWarning, match=LEFT) as caught:
        opt = SGD(theirs.param_groups, lr=1.0, schedule=from_torch(scheduler))
    assert caught[0].filename == __file__
    set_grads(opt.param_groups[0]["params"], 0)
    opt.step()  # once is enough

    late = make()
    with pytest.warns(UserWarning, match=LEFT):
        late.add_param_group({**theirs.param_groups[0], "params": models((2,))})

    with warnings.catch_warnings(action="error"):
        theirs.param_groups[0]["lr"] = theirs.param_groups[0]["initial_lr"]
        SGD(theirs.param_groups, lr=1.0, schedule=from_torch(scheduler))
        SGD([{"params": models((3,)), "initial_lr": 9.0}], lr=1.0, schedule=linear_warmup(8))
