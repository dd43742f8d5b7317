"""opt.scheduler(): a torch scheduler that leaves the rate alone and tells the one in force."""

import copy
import pickle

import pytest
import torch
from support import models, set_grads
from torch.optim.lr_scheduler import LRScheduler

from fused_warmup import SGD, linear_warmup
from fused_warmup.schedules import cosine

SCHEDULE = linear_warmup(4, start=0.2).then(cosine(6))


def optimizer() -> SGD:
    weight, bias = models((3,), (2,))
    groups = [{"params": [weight]}, {"params": [bias], "lr": 0.1, "schedule": None}]
    return SGD(groups, lr=0.5, schedule=SCHEDULE)


def advance(opt: SGD, t: int) -> None:
    set_grads([p for group in opt.param_groups for p in group["params"]], t)
    opt.step()


def test_tells_the_rate_of_the_next_step_and_changes_nothing() -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    assert isinstance(scheduler, LRScheduler)
    for t in range(12):
        assert scheduler.get_last_lr() == [0.5 * SCHEDULE(t), 0.1]
        assert scheduler.last_epoch == t
        shown = [group["lr"] for group in scheduler.optimizer.param_groups]
        assert shown == scheduler.get_last_lr()
        assert [group["lr"] for group in opt.param_groups] == [0.5, 0.1] == scheduler.base_lrs
        advance(opt, t)
        assert opt.get_last_lr() == shown
        scheduler.step()
        scheduler.step()  # whoever calls it, and how often, does not matter


def test_building_it_leaves_the_optimizer_alone() -> None:
    opt = optimizer()
    before = copy.deepcopy(opt.state_dict())
    opt.scheduler()
    assert repr(opt.state_dict()) == repr(before)
    assert "step" not in vars(opt)


def test_tells_the_truth_after_a_skipped_step() -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    opt.grad_scale, opt.found_inf = torch.tensor(1.0), torch.tensor(1.0)
    advance(opt, 0)
    scheduler.step()
    assert scheduler.get_last_lr() == [0.5 * SCHEDULE(0), 0.1]


def test_resumes_with_the_optimizer() -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    for t in range(5):
        advance(opt, t)
        scheduler.step()
    other = optimizer()
    resumed = other.scheduler()
    other.load_state_dict(opt.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    assert resumed.state_dict() == scheduler.state_dict()
    assert resumed.get_last_lr() == scheduler.get_last_lr() == [0.5 * SCHEDULE(5), 0.1]
    assert pickle.loads(pickle.dumps(scheduler)).get_last_lr() == scheduler.get_last_lr()


def test_its_optimizer_is_the_optimizer_to_look_at() -> None:
    opt = optimizer()
    look = opt.scheduler().optimizer
    assert look == opt
    assert opt == look
    assert look in [opt]
    assert look != optimizer()
    assert look == opt.scheduler().optimizer
    assert (look.__class__, isinstance(look, SGD), hash(look)) == (SGD, True, hash(opt))
    assert look.defaults is opt.defaults
    with pytest.raises(TypeError, match="item assignment"):
        look.param_groups[0]["lr"] = 0.1
