"""The momentum that torch's OneCycleLR and CyclicLR cycle, as a schedule."""

import copy
from typing import Any

from torch.optim import lr_scheduler

from ...schedules.checks import finite, whole
from ...schedules.policies import curve_through
from ...schedules.schedule import Schedule
from ...schedules.segment import Kind
from ...schedules.tables import table
from ..ahead.known import stranger
from ..ahead.own import check_length, check_unused, run_ahead
from ..ahead.sandbox import Sandbox, check_convertible, leaves, optimizer_of
from . import cyclic


def cyclers(scheduler: Any) -> list[Any]:
    """Return the schedulers that move the momentum."""
    return [leaf for leaf in leaves(scheduler) if getattr(leaf, "cycle_momentum", False)]


def highest_momentum(scheduler: Any, group: int) -> float:
    """Return the highest momentum that a scheduler gives a group: the base of its factors."""
    own = optimizer_of(scheduler).param_groups[group]
    return max(
        float(leaf.max_momentums[group] if hasattr(leaf, "max_momentums") else own["max_momentum"])
        for leaf in cyclers(scheduler)
    )


def momentum_from_torch(
    scheduler: Any, *, steps: int | None = None, group: int = 0, momentum: float | None = None
) -> Schedule | None:
    """Convert the cycle of the momentum of torch's OneCycleLR or CyclicLR.

    ``momentum * schedule(t)`` is the momentum that the scheduler sets after ``t`` of its steps,
    counted from its construction: what `SGD` takes as ``momentum_schedule``, beside `from_torch`'s
    ``schedule``. `convert` does both. Past the end of a OneCycleLR its last momentum stays.

    Args:
        scheduler: The scheduler, SequentialLR and ChainedScheduler included.
        steps: Length in steps of the scheduler. Needed where one of the two is part of another
            scheduler or has a ``scale_fn`` of its own, and is then sampled.
        group: Index of the parameter group.
        momentum: The momentum that the optimizer will be given; None: the highest of the cycle,
            ``max_momentum``.

    Returns:
        The schedule; None if the scheduler leaves the momentum alone.

    Raises:
        TypeError: No scheduler of torch's, or one that is driven by a metric.
        ValueError: ``steps`` is needed; the base momentum is 0.

    Example:
        >>> import torch
        >>> opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
        >>> scheduler = torch.optim.lr_scheduler.CyclicLR(opt, 0.1, 0.4, step_size_up=2)
        >>> factors = momentum_from_torch(scheduler)
        >>> [round(0.9 * factor, 3) for factor in factors(range(5))]
        [0.9, 0.85, 0.8, 0.85, 0.9]
    """
    check_convertible(scheduler)
    length = None if steps is None else whole("steps", steps, 1)
    if not cyclers(scheduler):
        return None
    if stranger(scheduler) is not None:
        check_unused(scheduler)
        momenta = run_ahead(scheduler, length).momenta[group]
        base = _base(max(momenta), group, momentum)
    else:
        base = _base(highest_momentum(scheduler, group), group, momentum)
        box = Sandbox(scheduler, group, live=False)
        if (formula := _closed_form(box, length)) is not None:
            return formula.scaled(1.0 / base)
        momenta = momentum_of(box, length)
    return table([each / base for each in momenta])


def _base(highest: float, group: int, momentum: float | None) -> float:
    base = highest if momentum is None else finite("momentum", momentum)
    if base <= 0.0:
        raise ValueError(
            f"the base momentum of group {group} is {base}, a factor needs one above 0: pass "
            "momentum=, the momentum that the optimizer will be given, or cycle_momentum=False"
        )
    return base


def _closed_form(box: Sandbox, steps: int | None) -> Schedule | None:
    leaf, group = box.scheduler, box.group
    if getattr(type(leaf), "get_lr", None) is lr_scheduler.OneCycleLR.get_lr:
        phases = leaf._schedule_phases
        names = [phases[0]["start_momentum"], *(phase["end_momentum"] for phase in phases)]
        kind = Kind.COS if leaf._anneal_func_type == "cos" else Kind.POLY
        ends = [phase["end_step"] for phase in phases]
        return Schedule(curve_through([group[name] for name in names], ends, kind))
    if not _is_cyclic(leaf):
        return None
    high, low = leaf.max_momentums[0], leaf.base_momentums[0]
    wave = cyclic.wave(leaf, high, low)
    if wave is not None or steps is None:
        return None if wave is None else Schedule((wave,))
    lines = cyclic.lines(copy.copy(leaf), high, low, steps)
    return None if lines is None else Schedule(tuple(lines), steps)


def _is_cyclic(leaf: Any) -> bool:
    return getattr(type(leaf), "get_lr", None) is lr_scheduler.CyclicLR.get_lr


def momentum_of(box: Sandbox, steps: int | None) -> list[float]:
    """Return the momenta of the next steps, the present one first.

    Raises:
        ValueError: ``steps`` is None or too many.
    """
    if steps is None:
        raise ValueError(
            "a momentum that is cycled by a scheduler inside another one, or by a scale_fn, has no "
            "closed form that is known here: pass steps=, the length of the training, to sample it"
        )
    check_length(steps)
    leaf = box.scheduler
    if _is_cyclic(leaf):
        high, low = leaf.max_momentums[0], leaf.base_momentums[0]
        return cyclic.values(leaf, high, low, range(leaf.last_epoch, leaf.last_epoch + steps))
    values: list[float] = []
    while len(values) < steps:
        if values:
            box.step()
        group = box.group
        values.append(float(group["betas"][0] if "betas" in group else group["momentum"]))
    return values
