"""Hooks, profiler labels and subclasses: each fires once, with torch's arguments."""

from typing import Any

import pytest
import torch
from support import models, parameter, refused, set_grads
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.profiler import profile

from fused_warmup import SGD, convert


class Theirs(torch.optim.SGD):
    pass


class Plain(SGD):
    """A subclass that changes nothing."""


class Logged(SGD):
    """A subclass whose step calls ours, as they do."""

    def step(self, closure: Any = None) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return super().step(closure)


CLASSES = [SGD, Plain, Logged, Theirs]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def make(cls: type) -> Any:
    opt = cls(models((3,)), lr=0.1)
    set_grads(opt.param_groups[0]["params"], 0)
    return opt


@every_class
def test_hooks_fire_once_in_torchs_order_with_torchs_arguments(cls) -> None:
    opt, seen = make(cls), []

    def hook(name: str) -> Any:
        def record(*args: Any) -> None:
            assert args[0] is opt
            assert args[1][0] is opt
            seen.append((name, args[1][1:], args[2]))

        return record

    handles = [
        opt.register_step_pre_hook(hook("pre")),
        opt.register_step_post_hook(hook("post")),
        register_optimizer_step_pre_hook(hook("global pre")),
        register_optimizer_step_post_hook(hook("global post")),
    ]
    try:
        opt.step()
    finally:
        handles[2].remove()
        handles[3].remove()
    assert seen == [
        ("global pre", (), {}),
        ("pre", (), {}),
        ("post", (), {}),
        ("global post", (), {}),
    ]
    seen.clear()
    handles[0].remove()
    handles[1].remove()
    set_grads(opt.param_groups[0]["params"], 1)
    opt.step()
    assert seen == []
    if isinstance(opt, SGD):
        assert opt.steps_applied == 2


@every_class
def test_hooks_see_the_parameters_before_and_after(cls) -> None:
    opt = make(cls)
    p = opt.param_groups[0]["params"][0]
    seen: list[Any] = []
    opt.register_step_pre_hook(lambda *_: seen.append(p.tolist()))
    opt.register_step_post_hook(lambda *_: seen.append(p.tolist()))
    before = p.tolist()
    opt.step()
    assert seen == [before, p.tolist()]
    assert seen[0] != seen[1]


@every_class
def test_a_pre_hook_may_change_the_closure(cls) -> None:
    opt = make(cls)

    def replace(opt: Any, args: Any, kwargs: Any) -> Any:
        return (opt, lambda: 42.0), {}

    opt.register_step_pre_hook(replace)
    assert opt.step(lambda: 1.0) == 42.0
    assert opt.step() == 42.0


@every_class
def test_profiler_shows_one_label_a_step(cls) -> None:
    opt = make(cls)
    with profile(acc_events=True) as profiled:  # without it, torch before 2.13 warns
        opt.step()
        opt.zero_grad()
    names = [event.name for event in profiled.events()]
    assert names.count(f"Optimizer.step#{cls.__name__}.step") == 1
    assert sum(name.startswith("Optimizer.step#") for name in names) == 1
    assert sum(name.startswith("Optimizer.zero_grad#") for name in names) == 1


def test_state_dict_and_load_hooks() -> None:
    opt, seen = make(SGD), []
    opt.register_state_dict_pre_hook(lambda opt: seen.append("pre"))
    opt.register_state_dict_post_hook(lambda opt, state: {**state, "note": 1})
    opt.register_load_state_dict_pre_hook(lambda opt, state: {**state, "note": 2})
    opt.register_load_state_dict_post_hook(lambda opt: seen.append("post"))
    state = opt.state_dict()
    assert state["note"] == 1
    opt.step()
    opt.load_state_dict(state_dict=state)
    assert seen == ["pre", "post"]
    assert state["note"] == 1
    assert opt.steps_applied == 0


def test_state_dict_hooks_may_wrap_the_dict_and_unwrap_it() -> None:
    """The hooks see the dict that is saved, and may put another around it."""
    opt, other, seen = make(SGD), make(SGD), []
    for each in (opt, other):
        each.register_state_dict_pre_hook(lambda opt: seen.append(opt.steps_applied))
        each.register_state_dict_post_hook(lambda opt, state: {"opt": state, "note": 1})
        each.register_load_state_dict_pre_hook(lambda opt, state: state["opt"])
    opt.step()
    saved = opt.state_dict()
    assert set(saved) == {"opt", "note"}
    assert seen == [1]
    assert int(saved["opt"]["state"][0]["step"]) == 1
    opt.step()
    assert int(saved["opt"]["state"][0]["step"]) == 1
    other.load_state_dict(saved)
    assert other.steps_applied == 1
    with pytest.raises(KeyError, match="'opt'"):
        other.load_state_dict(saved["opt"])
    assert other.steps_applied == 1


def test_state_dict_hooks_may_give_lists_away_and_texts_back() -> None:
    """Pickled, or flattened to pairs: whatever the hooks of the two sides agree on."""
    opt, other = make(SGD), make(SGD)
    opt.register_state_dict_post_hook(lambda opt, state: [*state.items()])
    other.register_load_state_dict_pre_hook(lambda opt, state: dict(state["pairs"]))
    opt.step()
    other.load_state_dict({"pairs": opt.state_dict()})
    assert other.steps_applied == 1


def test_a_load_hook_that_fails_or_forgets_changes_nothing() -> None:
    opt = make(SGD)
    opt.step()
    state = opt.state_dict()
    handle = opt.register_load_state_dict_pre_hook(lambda opt, state: {"state": state["state"]})
    with refused(opt, KeyError, "param_groups"):
        opt.load_state_dict(state)
    handle.remove()
    opt.register_load_state_dict_pre_hook(lambda opt, state: state["missing"])
    with refused(opt, KeyError, "missing"):
        opt.load_state_dict(state)


def test_convert_passes_by_hooks_of_the_state() -> None:
    p = parameter(torch.ones(3))
    theirs = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    theirs.register_state_dict_post_hook(lambda opt, state: {"opt": state})
    p.grad = torch.ones(3)
    theirs.step()
    ours = convert(theirs)
    assert torch.equal(ours.state[p]["momentum_buffer"], torch.ones(3))


def test_a_load_hook_may_rewrite_the_state() -> None:
    opt, other = make(SGD), make(SGD)
    opt.steps_applied = 3

    def later(opt: Any, state: Any) -> None:
        state["state"] = {k: {**v, "step": torch.tensor(9.0)} for k, v in state["state"].items()}

    other.register_load_state_dict_pre_hook(later)
    other.load_state_dict(opt.state_dict())
    assert other.steps_applied == 9
    assert other.state[other.param_groups[0]["params"][0]]["step"].dtype == torch.int64


def test_a_subclass_steps_as_we_do() -> None:
    opt, logged = make(SGD), make(Logged)
    for _ in range(3):
        opt.step()
        logged.step()
    assert torch.equal(opt.param_groups[0]["params"][0], logged.param_groups[0]["params"][0])
    assert (logged.calls, logged.steps_applied) == (3, 3)
