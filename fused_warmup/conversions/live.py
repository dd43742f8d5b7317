"""From torch.optim.SGD in the middle of a training to the fused optimizer."""

from dataclasses import replace
from typing import Any

import torch

from ..optimizer import SGD
from ..options import SCHEDULES
from ..schedules.checks import whole
from ..schedules.schedule import Schedule
from ..schedules.segment import Segment
from . import laws
from .sandbox import RATES, Sandbox, check_convertible, clock, leaves
from .torch import from_torch, trace
from .torch_momentum import cyclers, highest_momentum, momentum_from_torch

OPTIONS = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
# What schedulers left behind, and schedules of a fused optimizer whose state was loaded: they are
# not what torch.optim.SGD goes by.
LEFTOVERS = {*RATES, "max_momentum", "base_momentum", *SCHEDULES}


def convert(
    optimizer: torch.optim.SGD,
    scheduler: Any = None,
    *,
    steps: int | None = None,
    steps_per_epoch: int = 1,
    **options: Any,
) -> SGD:
    """Replace a torch.optim.SGD and its scheduler by a fused optimizer that continues their run.

    Call it between two steps, at the start or in mid-training, after the scheduler's step. The
    next rates are those that the scheduler would have set, from its state as it is, and so are the
    momenta of OneCycleLR and CyclicLR; the momentum buffers are copied. Neither of the old two is
    needed from here on, and neither should be stepped.

    A ReduceLROnPlateau follows a metric: it is kept, and moved to the new optimizer, whose
    ``group["lr"]`` it then changes. Go on stepping it.

    Args:
        optimizer: The optimizer.
        scheduler: Its scheduler; None: the rates stay as they are.
        steps: Length of the whole training in steps of the scheduler, see `from_torch`.
        steps_per_epoch: Steps of the optimizer to one of the scheduler: 1 for a scheduler that is
            stepped after every update, the updates of an epoch for one that is stepped once an
            epoch (then call this between two epochs).
        **options: Keyword arguments of `SGD` such as ``backend`` and ``unscale``.

    Returns:
        The fused optimizer over the same parameters, ``steps_applied`` set.

    Raises:
        TypeError: The optimizer is no torch.optim.SGD; the scheduler is none of torch's.
        ValueError: The scheduler drives another optimizer, or needs ``steps``.

    Example:
        >>> import torch
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> opt = torch.optim.SGD([weight], lr=0.5, momentum=0.9)
        >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.5)
        >>> for _ in range(2):
        ...     weight.sum().backward()
        ...     opt.step()
        ...     scheduler.step()
        >>> opt = convert(opt, scheduler)
        >>> opt.steps_applied
        2
        >>> opt.step()
        >>> opt.get_last_lr()
        [0.125]
    """
    if not isinstance(optimizer, torch.optim.SGD):
        raise TypeError(
            f"got a {type(optimizer).__name__}, it must be a torch.optim.SGD: only its momentum "
            "and options mean the same here"
        )
    per_epoch = whole("steps_per_epoch", steps_per_epoch, 1)
    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    groups = [
        {k: v for k, v in group.items() if k == "lr" or k not in LEFTOVERS}
        for group in optimizer.param_groups
    ]
    done = 0
    if scheduler is not None and not plateau:
        _check(optimizer, scheduler)
        done = clock(scheduler)
        for i, group in enumerate(groups):
            group["lr"] = _base(optimizer.param_groups[i])
            group["schedule"] = _schedule(scheduler, i, done, steps)
            if cyclers(scheduler):
                group["momentum"] = highest_momentum(scheduler, i)
            if cyclers(scheduler) and group["momentum"] > 0:
                group["momentum_schedule"] = momentum_from_torch(scheduler, steps=steps, group=i)
            if per_epoch != 1:
                for name in SCHEDULES:
                    if group.get(name) is not None:
                        group[name] = group[name].stretched(per_epoch)
    defaults = {name: optimizer.defaults[name] for name in OPTIONS}
    fused = SGD(groups, lr=optimizer.defaults["lr"], **{**defaults, **options})
    state = {"state": optimizer.state_dict()["state"]}
    fused.load_state_dict({**state, "param_groups": fused.state_dict()["param_groups"]})
    fused.steps_applied = done * per_epoch
    if plateau:
        scheduler.optimizer = fused
    return fused


def _check(optimizer: torch.optim.SGD, scheduler: Any) -> None:
    check_convertible(scheduler)
    for leaf in leaves(scheduler):
        if leaf.optimizer is not optimizer:
            raise ValueError(
                f"the {type(leaf).__name__} drives another optimizer: pass the optimizer that it "
                "was built over"
            )


def _base(group: dict[str, Any]) -> float:
    """Return the rate that a group's factors are relative to: never 0."""
    return float(group.get("initial_lr", group["lr"])) or 1.0


def _schedule(scheduler: Any, group: int, done: int, steps: int | None) -> Schedule:
    """Return the run's schedule: as built, or from here on where the run has left that course."""
    live = Sandbox(scheduler, group, laws.is_known, live=True)
    base = _base(live.group) * live.unit
    rate = live.lr * live.unit / base
    as_built = from_torch(scheduler, steps=steps, group=group, lr=base)
    if abs(as_built(done) - rate) <= 1e-9 * max(abs(rate), 1e-9):
        return as_built
    left = None if steps is None else max(steps - done, 1)
    rest = Schedule(
        tuple(replace(s, start=s.start - done) for s in trace(live, left, start=done))
    ).scaled(live.unit / base)
    moved = tuple(replace(segment, start=segment.start + done) for segment in rest.segments)
    head = (Segment.constant(rate),) if done else ()
    return Schedule((*head, *moved), steps)
