"""attach, where gradients, groups and schedules are not as it left them."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW

import fused_warmup
from fused_warmup import attach, linear_warmup


def make(n: int = 1, **options: Any) -> AdamW:
    return AdamW([torch.nn.Parameter(torch.ones(2)) for _ in range(n)], lr=0.8, **options)


def step(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()


@pytest.mark.parametrize("attached_first", [False, True])
def test_gradients_that_a_hook_drops_after_the_step(attached_first: bool) -> None:
    optimizer = make()
    handle = attach(optimizer, linear_warmup(4)) if attached_first else None
    optimizer.register_step_post_hook(lambda *_: optimizer.zero_grad())
    handle = handle or attach(optimizer, linear_warmup(4))
    for _ in range(3):
        step(optimizer)
    assert (handle.steps_applied, handle.get_last_lr()) == (3, [0.4])


def test_gradients_that_the_step_itself_drops() -> None:
    class Frugal(SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step(closure)
            self.zero_grad()

    optimizer = Frugal([torch.nn.Parameter(torch.ones(2))], lr=0.8)
    handle = attach(optimizer, linear_warmup(4))
    step(optimizer)
    step(optimizer)
    optimizer.step()  # without gradients
    assert handle.steps_applied == 2


def test_a_copy_may_follow_another_schedule() -> None:
    optimizer = make()
    optimizer.add_param_group(
        {"params": [torch.nn.Parameter(torch.ones(2))], "schedule": linear_warmup(2)}
    )
    attach(optimizer, linear_warmup(4))
    step(optimizer)
    handle = attach(copy.deepcopy(optimizer), linear_warmup(8))
    step(handle.optimizer)
    assert (handle.steps_applied, handle.get_last_lr()) == (2, [0.1, 0.4])


def test_a_checkpoint_that_was_loaded_before() -> None:
    optimizer = make()
    attach(optimizer, linear_warmup(4))
    step(optimizer)
    for schedule, warned in ((linear_warmup(4), 0), (linear_warmup(8), 1), (None, 0)):
        other = make()
        other.load_state_dict(optimizer.state_dict())
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            handle = attach(other, schedule)
        assert len(seen) == warned
        step(other)
        assert handle.get_last_lr() == [0.8 * (schedule or linear_warmup(4))(1)]


@pytest.mark.parametrize("fused", [False, True])
def test_a_load_over_groups_that_no_step_has_seen(fused: bool) -> None:
    def two_groups() -> Any:
        optimizer = make(fused=fused)
        handle = attach(optimizer, linear_warmup(4))
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.1})
        return handle

    first, second = two_groups(), two_groups()
    step(first.optimizer)
    step(first.optimizer)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for each in (first, second):
        step(each.optimizer)
    assert second.steps_applied == 3
    assert second.get_last_lr() == first.get_last_lr() == [0.4, 0.05]


def test_a_checkpoint_that_turns_fused_off() -> None:
    # torch keeps the checkpoint's option, and such a step raises under GradScaler.
    first, fused = make(), make(fused=True)
    attach(first, linear_warmup(4))
    handle = attach(fused, linear_warmup(4))
    step(first)
    fused.load_state_dict(first.state_dict())
    step(fused)
    assert (handle.steps_applied, handle.get_last_lr()) == (2, [0.2])
    fused.grad_scale = fused.found_inf = torch.ones(())
    with pytest.raises((AssertionError, RuntimeError)):
        step(fused)
    assert handle.steps_applied == 2


def test_checkpoints_go_to_this_packages_sgd_and_back() -> None:
    first = SGD([torch.nn.Parameter(torch.ones(2))], lr=0.8, momentum=0.9)
    attach(first, linear_warmup(8))
    for _ in range(3):
        step(first)
    ours = fused_warmup.SGD(
        [torch.nn.Parameter(torch.ones(2))], lr=0.5, momentum=0.9, schedule=linear_warmup(8)
    )
    ours.load_state_dict(first.state_dict())
    step(ours)
    assert (ours.steps_applied, ours.get_last_lr()) == (4, [0.8 * 3 / 8])
    assert not {"steps_applied", "initial_lr"} & ours.param_groups[0].keys()
    back = SGD([torch.nn.Parameter(torch.ones(2))], lr=0.5, momentum=0.9)
    handle = attach(back, linear_warmup(8))
    back.load_state_dict(ours.state_dict())
    step(back)
    assert (handle.steps_applied, handle.get_last_lr()) == (5, [0.4])
    again = fused_warmup.SGD(
        [torch.nn.Parameter(torch.ones(2))], lr=0.5, momentum=0.9, schedule=linear_warmup(8)
    )
    again.load_state_dict(back.state_dict())
    assert (again.steps_applied, again.scheduler().get_last_lr()) == (5, [0.5])


def test_convert_names_the_way_of_an_attached_optimizer() -> None:
    optimizer = SGD([torch.nn.Parameter(torch.ones(2))], lr=0.8)
    handle = attach(optimizer, linear_warmup(4))
    step(optimizer)
    with pytest.raises(RuntimeError, match="call remove"):
        fused_warmup.convert(optimizer)
    handle.remove()
    assert fused_warmup.convert(optimizer).param_groups[0]["lr"] == 0.8


def test_the_count_is_set_where_a_group_was_added_since_the_last_step() -> None:
    optimizer = make(fused=True)
    handle = attach(optimizer, linear_warmup(4))
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], "lr": 0.4})
    handle.steps_applied = 2
    assert handle.get_last_lr() == [0.4, 0.2]
    step(optimizer)
    assert (handle.steps_applied, handle.get_last_lr()) == (3, [0.4, 0.2])


def through_a_file(optimizer: Any) -> Any:
    file = io.BytesIO()
    torch.save(optimizer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda o: pickle.loads(pickle.dumps(o)), through_a_file]
)
def test_a_copy_after_a_step_that_raised(copied: Callable[[Any], Any], fused: bool) -> None:
    optimizer = make(fused=fused)
    handle = attach(optimizer, linear_warmup(4))
    step(optimizer)

    def fail(*_: Any) -> None:
        raise FloatingPointError

    hook = optimizer.register_step_pre_hook(fail)  # after the schedule's
    with pytest.raises(FloatingPointError):
        step(optimizer)
    twin = copied(optimizer)
    assert int(twin.param_groups[0]["steps_applied"]) == 1
    assert handle.steps_applied == 1
    hook.remove()
    step(optimizer)
    assert (handle.steps_applied, handle.get_last_lr()) == (2, [0.2])
    handle.remove()
    assert "__getstate__" not in vars(optimizer)


def test_a_copy_in_the_middle_of_a_step() -> None:
    optimizer = make()
    handle = attach(optimizer, linear_warmup(4))
    copies: list[AdamW] = []
    optimizer.register_step_pre_hook(lambda *_: copies.append(copy.deepcopy(optimizer)))
    step(optimizer)
    step(optimizer)
    assert [int(each.param_groups[0]["steps_applied"]) for each in copies] == [0, 1]
    assert handle.steps_applied == 2
