"""restart_schedule: one group's schedules from their first step, the others where they are."""

import copy
import io
import warnings

import pytest
import torch
from support import models, set_grads

from fused_warmup import SGD, cosine, linear_warmup
from fused_warmup.schedules import Schedule, constant, one_cycle, one_cycle_momentum, step

SCHEDULES = [
    linear_warmup(3, start=0.25).then(cosine(9)),
    linear_warmup(3, start=0.25) * step(2, 0.5),
    (linear_warmup(3) * cosine(8)).lasting(9).then(constant(0.25)),
]


def two_groups(**options) -> SGD:
    head, body = models((3,), (2,))
    return SGD([{"params": [head]}, {"params": [body]}], lr=1.0, **options)


def rates(opt: SGD, steps: int) -> list[list[float]]:
    found = []
    for t in range(steps):
        set_grads([p for group in opt.param_groups for p in group["params"]], t)
        opt.step()
        found.append(opt.get_last_lr())
    return found


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_it_begins_anew_and_again(schedule: Schedule) -> None:
    opt = two_groups(schedule=schedule)
    rates(opt, 4)
    opt.restart_schedule(1)
    assert rates(opt, 5) == [[schedule(4 + t), schedule(t)] for t in range(5)]
    opt.restart_schedule(opt.param_groups[1])
    assert rates(opt, 5) == [[schedule(9 + t), schedule(t)] for t in range(5)]


def test_it_survives_a_checkpoint() -> None:
    opt, again = two_groups(schedule=SCHEDULES[0]), two_groups(schedule=SCHEDULES[0])
    rates(opt, 4)
    opt.restart_schedule(-1)
    rates(opt, 2)
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file))
    assert rates(again, 2) == rates(opt, 2)
    for each in (opt, again):
        each.restart_schedule(1)
    assert rates(again, 3) == rates(opt, 3)


def test_a_checkpoint_of_before_has_it_begin_where_it_did() -> None:
    opt = two_groups(schedule=SCHEDULES[0])
    rates(opt, 2)
    before = copy.deepcopy(opt.state_dict())
    expected = rates(opt, 3)
    opt.restart_schedule(1)
    opt.load_state_dict(before)
    assert rates(opt, 3) == expected


def test_another_schedule_given_since_begins_at_its_own_start() -> None:
    opt = two_groups(schedule=SCHEDULES[0])
    rates(opt, 4)
    opt.restart_schedule(1)
    other = constant(0.5, 3).then(cosine(7))
    opt.param_groups[1]["schedule"] = other
    opt.restart_schedule(1)
    assert [second for _, second in rates(opt, 6)] == other(range(6))


def test_a_schedule_given_since_is_that_of_the_code_that_resumes() -> None:
    opt = two_groups(schedule=SCHEDULES[0])
    rates(opt, 4)
    opt.restart_schedule(1)
    opt.param_groups[1]["schedule"] = cosine(20)
    rates(opt, 1)
    saved = copy.deepcopy(opt.state_dict())
    expected = rates(opt, 3)
    resumed = two_groups(schedule=SCHEDULES[0])
    resumed.param_groups[1]["schedule"] = cosine(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.load_state_dict(saved)
    assert rates(resumed, 3) == expected


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("restarted_here", [False, True])
def test_goes_on_from_files_that_were_read_key_by_key(schedule, restarted_here) -> None:
    opt = two_groups(schedule=schedule)
    rates(opt, 4)
    opt.restart_schedule(1)
    rates(opt, 2)
    saved = copy.deepcopy(opt.state_dict())
    expected = rates(opt, 5)
    resumed = two_groups(schedule=schedule)
    if restarted_here:
        rates(resumed, 2)
        resumed.restart_schedule(1)
    # As torch.distributed.checkpoint does with what a new optimizer's state dict has.
    known = two_groups(schedule=schedule).state_dict()["param_groups"]
    for group, keys in zip(saved["param_groups"], known, strict=True):
        for key in group.keys() - keys.keys():
            del group[key]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.load_state_dict(saved)
    assert rates(resumed, 5) == expected
    resumed.restart_schedule(1)
    assert [second for _, second in rates(resumed, 3)] == schedule(range(3))


def test_the_momentum_goes_along() -> None:
    opt = two_groups(momentum=0.9, schedule=one_cycle(9), momentum_schedule=one_cycle_momentum(9))
    rates(opt, 4)
    opt.restart_schedule(1)
    first, second = (group["momentum_schedule"].schedule for group in opt.param_groups)
    assert second(range(4, 13)) == first(range(9))


def test_refuses() -> None:
    opt = two_groups()
    with pytest.raises(ValueError, match="follows no schedule"):
        opt.restart_schedule(0)
    for wrong in (2, -3, {"params": []}):
        with pytest.raises(ValueError, match="one of the optimizer's 2 groups"):
            opt.restart_schedule(wrong)
