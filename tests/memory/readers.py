"""Cases: an optimizer is asked, saved, loaded and set while a tensor of its has no memory.

torch's own operations read address 0 then; ours say so, or do without. Left out is what only hands
such a tensor to torch: copying, pickling and printing the optimizer, the norm of its gradients.
"""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from fused_warmup import clip_grad_norm_

from .subjects import Ours
from .ways import resize_storage

WRONG = (TypeError, ValueError, RuntimeError)

LOST: dict[str, Callable[[Ours], torch.Tensor]] = {
    "param": lambda s: s.params[0],
    "grad": lambda s: s.params[0].grad,
    "momentum_buffer": lambda s: s.opt.state[s.params[0]]["momentum_buffer"],
    "first_step": lambda s: s.opt.state[s.params[0]]["first_step"],
    "count": lambda s: s.opt.state[s.params[0]]["step"],
    "rate": lambda s: s.opt.lr_tensor(),
    "lr": lambda s: s.opt.param_groups[0]["lr"],
    "grad_scale": lambda s: s.opt.grad_scale,
    "found_inf": lambda s: s.opt.found_inf,
}


def _new_group(s: Ours) -> None:
    s.opt.add_param_group({"params": [torch.nn.Parameter(torch.ones(3))], "schedule": None})


def _set_count(s: Ours) -> None:
    s.opt.steps_applied = 2


def _without_scalars(s: Ours) -> None:
    s.opt.grad_scale = s.opt.found_inf = None
    clip_grad_norm_(s.opt, 1.0)
    s.opt.step()


ASK: dict[str, Callable[[Ours], Any]] = {
    "lr_tensor": lambda s: s.opt.lr_tensor(),
    "get_last_lr": lambda s: s.opt.get_last_lr(),
    "steps_applied": lambda s: s.opt.steps_applied,
    "set_steps_applied": _set_count,
    "state_dict": lambda s: s.opt.state_dict(),
    "load_state_dict": lambda s: s.opt.load_state_dict(s.saved),
    "scheduler": lambda s: s.opt.scheduler().get_last_lr(),
    "look": lambda s: s.opt.scheduler().optimizer.param_groups[0]["lr"],
    "new_group": _new_group,
    "zero_grad": lambda s: s.opt.zero_grad(),
    "zero_grad_in_place": lambda s: s.opt.zero_grad(set_to_none=False),
    "clip": _without_scalars,
    "step": lambda s: s.opt.step(),
}
"""`load_state_dict` and what follows may write to the lost tensor, or put another in its place."""

TORCHS_OWN = {("grad", "zero_grad_in_place"), ("grad", "clip")}


def ask(lost: Callable[[Ours], torch.Tensor], question: Callable[[Ours], Any], first: bool) -> None:
    s = Ours("everything")
    if not first:
        s.train(2)
    s.set_grads()
    s.saved = Ours("everything").opt.state_dict()
    tensor = lost(s)
    values = tensor.detach().clone()
    resize_storage(tensor, 0)
    for _ in range(2):
        with contextlib.suppress(*WRONG):
            question(s)
    # What has been asked does not stand in the way once all is there again.
    tensor.data = values
    s.set_grads()
    s.opt.grad_scale = s.opt.found_inf = None
    count = s.opt.steps_applied
    s.opt.step()
    assert s.opt.steps_applied == count + 1
    assert all(bool(p.isfinite().all()) for p in s.params)


CASES: dict[str, Callable[[], None]] = {
    f"{name}-{question}-{'first' if first else 'warm'}": partial(ask, lost, act, first)
    for name, lost in LOST.items()
    for question, act in ASK.items()
    for first in (True, False)
    if (name, question) not in TORCHS_OWN
}


def warm_up() -> None:
    """Let torch import what it imports late."""
    s = Ours("everything")
    s.train(1)
    s.opt.load_state_dict(s.opt.state_dict())
