"""Schedules for any torch optimizer: their rates come from the launch that `SGD` makes, alone."""

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from ...schedules import Schedule
from ..counted import CountedOptimizer
from .handle import Attached, find

__all__ = ["Attached", "attach"]


def attach(optimizer: Optimizer, schedule: Schedule | Mapping[str, Any] | None = None) -> Attached:
    """Let a schedule drive the learning rate of any torch optimizer, from the count of its steps.

    Before each step one small launch writes ``base * schedule(t)`` into every group's ``"lr"`` and
    counts the step, on the device that holds the group's parameters. ``t`` counts the steps that
    were *applied*: one that AMP skips, that raises or that has no gradient moves nothing, and there
    is no scheduler to step. A CUDA graph captures the launch with the step, and a compiled step is
    not compiled again.

    That needs an optimizer that takes a tensor ``"lr"`` without reading it back: torch's with
    ``fused=True`` or, on a GPU, ``capturable=True``, and every one that was given a tensor ``lr``,
    which stays one (do so to compile its step). Others get plain numbers from a count on the host.
    The rates are the same; ``print(handle)`` says which of the two it is.

    The base is in ``group["initial_lr"]``: set that to change it. What scales ``group["lr"]``, as
    ReduceLROnPlateau does, scales the base. A scheduler that sets it raises at the next step.

    The count travels in the optimizer's ``state_dict``, as ``"steps_applied"`` of each group, and a
    load goes on where it was. A copy or an unpickled optimizer has no hooks: attach to it again,
    and it goes on, too.

    Args:
        optimizer: The optimizer, not one of this package.
        schedule: For all groups that have no ``"schedule"`` of their own, those that are added
            later too; None: each group says its own.

    Returns:
        The handle: ``steps_applied``, ``get_last_lr()``, ``scheduler()``, ``remove()``; `RateLog`
        takes it for an optimizer.

    Raises:
        TypeError: What is no optimizer, a rate that is no number, something that is no schedule.
        ValueError: No schedule at all; a rate out of range; a tensor ``lr`` over several devices.
        RuntimeError: Another schedule or scheduler drives it; it skips AMP's steps by itself and is
            not known to take a tensor. Nothing has changed in any case.

    Example:
        >>> import torch, fused_warmup
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> opt = torch.optim.AdamW([weight], lr=0.8, fused=True)
        >>> handle = fused_warmup.attach(opt, fused_warmup.linear_warmup(4))
        >>> for _ in range(3):
        ...     weight.sum().backward()
        ...     opt.step()
        >>> handle.steps_applied, handle.get_last_lr(), opt.param_groups[0]["initial_lr"]
        (3, [0.4], 0.8)
    """
    _check(optimizer)
    return Attached(optimizer, schedule)


def _check(optimizer: Any) -> None:
    if isinstance(optimizer, CountedOptimizer):
        raise TypeError(
            f"the optimizer is fused_warmup's own {type(optimizer).__name__}, whose kernel has the "
            "schedule already: pass schedule= when it is built, or set group['schedule']"
        )
    if not isinstance(optimizer, Optimizer) or not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        raise TypeError(
            f"got a {type(optimizer).__name__}, whose step has no hooks: pass the torch.optim "
            "optimizer itself, that inside a wrapper (its .optimizer)"
        )
    if find(optimizer) is not None:
        raise RuntimeError(
            f"a schedule drives this {type(optimizer).__name__} already: call remove() of its "
            "handle, or set group['schedule'] to another"
        )
    if hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        raise RuntimeError(
            f"a scheduler drives this {type(optimizer).__name__}, both would write its rates: "
            "attach to a new optimizer, with the schedule of fused_warmup.from_torch(scheduler)"
        )
