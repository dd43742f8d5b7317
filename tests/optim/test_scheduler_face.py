"""opt.scheduler(): a torch scheduler that leaves the rate alone and tells the one in force."""

import copy
import pickle

import torch
from support import models, set_grads
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

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
        assert opt.get_last_lr() == shown == scheduler.get_last_lr()  # as with torch's
        scheduler.step()
        if t > 6:
            scheduler.step()  # how often does not matter


def test_is_torchs_scheduler_to_whoever_looks() -> None:
    opt, theirs = optimizer(), torch.optim.SGD(models((2,)), lr=0.5)
    mine, lambdas = opt.scheduler(), LambdaLR(theirs, lambda t: SCHEDULE(t))
    for t in range(12):
        seen = []
        for o, s in ((opt, mine), (theirs, lambdas)):
            seen.append([s.get_last_lr()[0], s.optimizer.param_groups[0]["lr"]])
            set_grads([p for group in o.param_groups for p in group["params"]], t)
            o.step()
            seen[-1] += [s.get_last_lr()[0], s.last_epoch - (s is mine)]
            s.step()
        assert seen[0] == seen[1]


def test_stepped_once_an_epoch_it_still_tells_the_next_rate() -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    for t in range(12):
        if t > 4:
            assert scheduler.get_last_lr() == [0.5 * SCHEDULE(t), 0.1]
        advance(opt, t)
        if t % 4 == 3:
            scheduler.step()


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
