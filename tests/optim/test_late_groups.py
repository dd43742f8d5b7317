"""A group that is added in mid-training follows the schedule of the others."""

import pickle
from typing import Any

import pytest
import torch
from support import models, parameter, set_grads, train
from torch.optim.lr_scheduler import CyclicLR, ExponentialLR, LambdaLR, OneCycleLR

from fused_warmup import SGD, Schedule, convert, from_super_gradients, linear_warmup
from fused_warmup.schedules import constant, cosine, exponential

half = exponential(0.5, 1)


def add(opt: SGD, **options: Any) -> None:
    opt.add_param_group({"params": [parameter(torch.ones(2))], **options})


def schedules(opt: SGD, name: str = "schedule") -> list[Schedule | None]:
    plain = [group[name] for group in opt.param_groups]
    return [each and Schedule.from_dict(each) for each in plain]


def test_after_convert() -> None:
    theirs = torch.optim.SGD(models((3,)), lr=1.0)
    opt = convert(theirs, ExponentialLR(theirs, 0.5))
    add(opt)
    train(opt, 2)
    assert opt.get_last_lr() == [0.5, 0.5]


def test_after_convert_in_mid_training_and_of_many_groups() -> None:
    first, second = models((3,), (4,))
    groups = [{"params": [first]}, {"params": [second], "lr": 0.5}]
    theirs = torch.optim.SGD(groups, lr=1.0)
    scheduler = ExponentialLR(theirs, 0.5)
    train(theirs, 2, after=lambda _: scheduler.step())
    opt = convert(theirs, scheduler)
    add(opt, lr=4.0)  # as Lightning's BackboneFinetuning adds layers
    train(opt, 1)
    assert opt.get_last_lr() == [0.25, 0.125, 1.0]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: OneCycleLR(o, 0.5, 30, cycle_momentum=True),
        lambda o: CyclicLR(o, 0.1, 0.2, 4, base_momentum=0.5, max_momentum=0.95),
    ],
    ids=["OneCycleLR", "CyclicLR"],
)
def test_the_momentum_after_convert(make: Any) -> None:
    theirs = torch.optim.SGD(models((3,)), lr=1.0, momentum=0.9)
    opt = convert(theirs, make(theirs))
    add(opt)
    first, added = opt.param_groups
    assert added["momentum_schedule"] == first["momentum_schedule"] is not None
    assert added["schedule"] == first["schedule"]
    assert added["momentum"] == first["momentum"] == 0.95


def test_after_a_recipe() -> None:
    params = {
        "initial_lr": {"default": 0.1, "0.": 0.01},
        "max_epochs": 3,
        "lr_mode": "CosineLRScheduler",
    }
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    recipe = from_super_gradients(params, steps_per_epoch=10)
    opt = SGD(recipe.param_groups(net.named_parameters()), momentum=0.9)
    add(opt, lr=0.2)
    assert schedules(opt) == [recipe.schedules["default"]] * 3


@pytest.mark.parametrize("choice", [None, "checkpoint"])
def test_after_a_load(choice: Any) -> None:
    saver = SGD(models((3,)), lr=1.0, momentum=0.9, schedule=half, momentum_schedule=cosine(9))
    train(saver, 1)
    given = None if choice is None else linear_warmup(4)
    opt = SGD(models((3,)), lr=1.0, momentum=0.9, schedule=given)
    opt.load_state_dict(saver.state_dict(), schedules=choice)
    add(opt)
    assert schedules(opt) == [half, half]
    assert schedules(opt, "momentum_schedule") == [cosine(9), cosine(9)]
    train(opt, 1)
    assert opt.get_last_lr() == [0.5, 0.5]


def test_after_a_load_by_the_schedule_of_the_code() -> None:
    saver = SGD(models((3,)), lr=1.0, schedule=half)
    opt = SGD(models((3,)), lr=1.0, schedule=linear_warmup(4))
    opt.load_state_dict(saver.state_dict(), schedules="code")
    add(opt)
    assert schedules(opt) == [linear_warmup(4)] * 2


def test_after_unpickling_and_again_after_a_first_group() -> None:
    opt = SGD([{"params": models((3,)), "schedule": half}], lr=1.0)
    other = pickle.loads(pickle.dumps(opt))
    for each in (opt, other):
        add(each)
        add(each)
        assert schedules(each) == [half] * 3


def test_what_a_group_says_itself_stands() -> None:
    opt = SGD([{"params": models((3,)), "schedule": half}], lr=1.0)
    add(opt, schedule=None)
    add(opt, schedule=linear_warmup(4))
    assert schedules(opt) == [half, None, linear_warmup(4)]


def test_the_default_of_the_code_stands() -> None:
    groups = [{"params": models((3,)), "schedule": half}]
    opt = SGD(groups, lr=1.0, schedule=constant(0.1))
    opt.load_state_dict(opt.state_dict())
    add(opt)
    assert schedules(opt) == [half, constant(0.1)]


def test_groups_made_together_do_not_inherit() -> None:
    first, second = models((3,), (4,))
    opt = SGD([{"params": [first], "schedule": half}, {"params": [second]}], lr=1.0)
    add(opt)  # one of them has none, and so may this
    assert schedules(opt) == [half, None, None]


def test_where_the_others_differ_a_warning_asks() -> None:
    first, second = models((3,), (4,))
    theirs = torch.optim.SGD([{"params": [first]}, {"params": [second]}], lr=1.0)
    scheduler = LambdaLR(theirs, [lambda t: 0.5**t, lambda t: 0.25**t])
    opt = convert(theirs, scheduler, steps=9)
    with pytest.warns(UserWarning, match="follows no schedule, .* differ: give it one") as caught:
        add(opt)
    assert caught[0].filename == __file__
    assert opt.param_groups[-1]["schedule"] is None
    add(opt, schedule=None)
    set_grads([p for group in opt.param_groups for p in group["params"]], 0)
    opt.step()
