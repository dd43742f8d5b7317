"""From torch.optim.SGD in the middle of a training to the fused optimizer."""

from typing import Any

import torch

from .._groups.options import SCHEDULES
from .._optim.sgd import SGD
from .._optim.state import pack
from ..schedules.checks import whole
from .rest import RestOfRun
from .sandbox import RATES, check_convertible, clock, leaves

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
        rest = RestOfRun(scheduler, done, None if steps is None else whole("steps", steps, 1))
        for i, group in enumerate(groups):
            group["lr"] = _base(optimizer.param_groups[i])
            group["schedule"] = rest.schedule(i, group["lr"])
            if (momentum := rest.momentum(i)) is not None:
                group["momentum"], group["momentum_schedule"] = momentum
            if per_epoch != 1:
                for name in SCHEDULES:
                    if group.get(name) is not None:
                        group[name] = group[name].stretched(per_epoch)
    defaults = {name: optimizer.defaults[name] for name in OPTIONS}
    if all(group.get("momentum_schedule") is not None for group in groups):
        # Groups that are added later follow it, and it is a factor of this.
        defaults["momentum"] = groups[0]["momentum"]
    # Momentum may have been set to 0 since, where nesterov means nothing; a new group may not.
    nesterov = [group.pop("nesterov") for group in groups]
    defaults = {**defaults, **options}
    fused = SGD(groups, lr=optimizer.defaults["lr"], **{**defaults, "nesterov": False})
    for group, wanted in zip(fused.param_groups, nesterov, strict=True):
        group["nesterov"] = wanted
    fused.defaults["nesterov"] = defaults["nesterov"]
    # What torch.optim.SGD goes by, and past hooks that may make something else of its state.
    packed = pack(optimizer.state, optimizer.param_groups)["state"]
    buffers = {
        key: {name: value for name, value in entry.items() if name == "momentum_buffer"}
        for key, entry in packed.items()
    }
    groups = fused.state_dict()["param_groups"]
    fused.load_state_dict({"state": buffers, "param_groups": groups})
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
