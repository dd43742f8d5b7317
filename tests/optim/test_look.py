"""opt.scheduler().optimizer: the optimizer to look at, its groups showing the rate in force."""

import copy
import operator
import pickle
from typing import Any

import pytest
import torch
from support import set_grads
from test_scheduler_face import SCHEDULE, advance, optimizer
from torch.optim.lr_scheduler import LambdaLR

from fused_warmup import SGD


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


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_tell_of_copies(copied: Any) -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    advance(opt, 0)
    scheduler.optimizer.param_groups  # noqa: B018
    twin = copied(scheduler)
    look = copied(scheduler.optimizer)
    groups = copied(scheduler.optimizer.param_groups)
    advance(opt, 1)
    for each in (twin, look._scheduler):
        assert each.last_epoch == 1
        assert each.optimizer != opt
        assert each.optimizer is each.optimizer
    assert groups[0]["lr"] == 0.5 * SCHEDULE(0)
    groups[0]["lr"] = 1.0  # a copy is a dict as any
    twin.step()
    advance(twin._of, 1)
    twin.step()
    assert twin.get_last_lr() == [0.5 * SCHEDULE(2), 0.1]


def test_the_look_passes_on_what_it_is_told() -> None:
    opt = optimizer()
    look = opt.scheduler().optimizer
    assert repr(look).splitlines()[:3] == ["SGD (", "Parameter Group 0", "    dampening: 0"]
    assert f"lr: {0.5 * SCHEDULE(0)}" in repr(look)
    assert f"    schedule: {SCHEDULE!r}\n" in repr(look)  # as that of the optimizer itself
    look.grad_scale = torch.tensor(2.0)  # GradScaler sets and deletes these
    assert opt.grad_scale == 2.0
    del look.grad_scale
    assert not hasattr(opt, "grad_scale")
    set_grads([p for group in look.param_groups for p in group["params"]], 0)
    look.step()
    assert opt.steps_applied == 1
    look.zero_grad()
    assert opt.param_groups[0]["params"][0].grad is None


def test_the_groups_of_the_look_are_read_only() -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    group = scheduler.optimizer.param_groups[0]
    assert isinstance(group, dict)
    assert group.setdefault("lr", 9.0) == 0.5 * SCHEDULE(0)
    writes: list[Any] = [
        lambda: group.__setitem__("lr", 1.0),
        lambda: group.__delitem__("lr"),
        lambda: group.update(lr=1.0),
        lambda: group.setdefault("new", 1.0),
        lambda: group.pop("lr"),
        lambda: group.popitem(),
        lambda: group.clear(),
        lambda: operator.ior(group, {"lr": 1.0}),
        lambda: LambdaLR(scheduler.optimizer, lambda t: 0.5),
    ]
    for write in writes:
        with pytest.raises(TypeError, match=r"change those of opt\.param_groups"):
            write()
    assert group == scheduler.optimizer.param_groups[0]
    assert {**group, "lr": 1.0}["lr"] == 1.0
