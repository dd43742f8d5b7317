"""What a user's code may do while a step runs: to the tensors, and to all around them.

Each change leaves constants, so that what a step comes to does not depend on when it was made, but
for its being before or after the step.
"""

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .subjects import SCHEDULE, Ours
from .ways import resize_storage

Change = Callable[[Ours], object]


def _momentum(s: Ours, p: Tensor) -> Tensor | None:
    buffer: Tensor | None = s.opt.state[p].get("momentum_buffer") if p in s.opt.state else None
    return buffer


def _swap(tensor: Tensor) -> None:
    other = torch.nn.Parameter(torch.full_like(tensor.detach(), 0.25))
    grad, tensor.grad = tensor.grad, None
    torch.utils.swap_tensors(tensor, other)
    del other
    tensor.grad = grad


def _each(change: Callable[[Ours, Tensor], object]) -> Change:
    def apply(s: Ours) -> None:
        with torch.no_grad():
            for p in s.params:
                change(s, p)

    return apply


def _each_grad(change: Callable[[Tensor], object]) -> Change:
    return _each(lambda s, p: None if p.grad is None else change(p.grad))


def _each_momentum(change: Callable[[Tensor], object]) -> Change:
    def apply(s: Ours, p: Tensor) -> None:
        buffer = _momentum(s, p)
        if buffer is not None:
            change(buffer)

    return _each(apply)


def _put(key: str, make: Callable[[Tensor], Any]) -> Change:
    return _each(lambda s, p: s.opt.state[p].__setitem__(key, make(p)))


def _drop(key: str) -> Change:
    return _each(lambda s, p: s.opt.state[p].pop(key, None))


def _data(tensor: Tensor, value: float) -> None:
    tensor.data = torch.full_like(tensor.data, value)


def _gradient(p: Tensor) -> Tensor:
    return torch.full_like(p.detach(), 2.0)


def _mark(s: Ours) -> list[Tensor]:
    return [e["first_step"] for e in s.opt.state.values() if "first_step" in e]


def _count(s: Ours) -> Tensor:
    counter: Tensor = s.opt.state[s.params[0]]["step"]
    return counter


def _new_count(s: Ours) -> None:
    new = torch.tensor(2)
    for p in s.params:
        s.opt.state[p]["step"] = new


def _new_group(s: Ours) -> None:
    s.opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], "lr": 0.1})


def _reload(s: Ours) -> None:
    s.opt.load_state_dict(s.opt.state_dict())


TENSORS: dict[str, Change] = {
    "grad_none": _each(lambda s, p: setattr(p, "grad", None)),
    "grad_new": _each(lambda s, p: setattr(p, "grad", _gradient(p))),
    "grad_data": _each_grad(lambda g: _data(g, 2.0)),
    "grad_set_nothing": _each_grad(lambda g: g.set_()),
    "grad_resize": _each_grad(lambda g: g.resize_(100)),
    "param_data": _each(lambda s, p: _data(p, 0.25)),
    "param_shorter": _each(lambda s, p: setattr(p, "data", torch.ones(2))),
    "param_swap": _each(lambda s, p: _swap(p)),
    "param_set_nothing": _each(lambda s, p: p.set_()),
    "param_storage_grows": _each(lambda s, p: resize_storage(p, 1 << 16)),
    "momentum_data": _each_momentum(lambda b: _data(b, 0.5)),
    "momentum_set_nothing": _each_momentum(lambda b: b.set_()),
    "momentum_new": _put("momentum_buffer", lambda p: torch.full_like(p.detach(), 0.5)),
    "momentum_gone": _drop("momentum_buffer"),
    "mark_data": lambda s: [_data(m, 0) for m in _mark(s)],
    "mark_set_nothing": lambda s: [m.set_() for m in _mark(s)],
    "mark_new": _put("first_step", lambda p: torch.tensor(0)),
    "count_data": lambda s: _data(_count(s), 2),
    "count_float": lambda s: setattr(_count(s), "data", torch.tensor(2.0)),
    "count_set_nothing": lambda s: _count(s).set_(),
    "count_new": _new_count,
    "rate_set_nothing": lambda s: s.opt.lr_tensor().set_(),
    "rate_shorter": lambda s: setattr(s.opt.lr_tensor(), "data", torch.zeros(1).double()),
    "lr_data": lambda s: _data(s.opt.param_groups[0]["lr"], 0.5),
    "lr_set_nothing": lambda s: s.opt.param_groups[0]["lr"].set_(),
    "lr_number": lambda s: s.opt.param_groups[0].update(lr=0.5),
    "scale_data": lambda s: _data(s.opt.grad_scale, 2.0),
    "scale_set_nothing": lambda s: s.opt.grad_scale.set_(),
    "scale_gone": lambda s: s.opt.__dict__.pop("grad_scale", None),
    "overflow_data": lambda s: _data(s.opt.found_inf, 1.0),
    "overflow_gone": lambda s: s.opt.__dict__.pop("found_inf", None),
}

AROUND: dict[str, Change] = {
    "groups_cleared": lambda s: s.opt.param_groups.clear(),
    "groups_shorter": lambda s: s.opt.param_groups.pop(),
    "params_cleared": lambda s: [g["params"].clear() for g in s.opt.param_groups],
    "group_cleared": lambda s: s.opt.param_groups[-1].clear(),
    "state_cleared": lambda s: s.opt.state.clear(),
    "entries_cleared": lambda s: [entry.clear() for entry in s.opt.state.values()],
    "attributes_cleared": lambda s: s.opt.__dict__.clear(),
    "schedule_gone": lambda s: [g.update(schedule=None) for g in s.opt.param_groups],
    "schedule_edited": lambda s: [
        g["schedule"]["segments"].clear() for g in s.opt.param_groups if g["schedule"]
    ],
    "schedule_new": lambda s: [g.update(schedule=SCHEDULE) for g in s.opt.param_groups],
    "group_added": _new_group,
    "reloaded": _reload,
    "count_set": lambda s: setattr(s.opt, "steps_applied", 2),
    "zero_grad": lambda s: s.opt.zero_grad(),
    "step": lambda s: s.opt.step(),
    "step_with_closure": lambda s: s.opt.step(lambda: 0.0),
    "copied": lambda s: s.opt.state_dict(),
    "collected": lambda s: gc.collect(),
}
"""What a step comes to then is not judged; the process lives, and an optimizer built anew steps."""
