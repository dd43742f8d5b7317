"""ignite's parameter schedulers as schedules."""

import copy
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LRScheduler
from torch.optim.swa_utils import SWALR

from ..schedules.checks import finite, whole
from ..schedules.decay import constant
from ..schedules.joins import join_schedules
from ..schedules.schedule import Schedule
from ..schedules.segment import Segment
from ..schedules.tables import table
from .ahead.known import stranger
from .ahead.own import run_copy
from .ahead.sandbox import Sandbox
from .ahead.stand_in import ON_THE_HOST
from .ignite_cycles import cycles, moved
from .torch.schedulers import trace

MODULE = "ignite.handlers.param_scheduler"
CYCLICAL = ("LinearCyclicalScheduler", "CosineAnnealingScheduler")


class _NeedsSteps(Exception):
    """No formula states it."""


def from_ignite(
    scheduler: Any, *, steps: int | None = None, group: int | None = None, lr: float | None = None
) -> Schedule:
    """Convert a scheduler of ignite.handlers that sets "lr".

    ``lr * schedule(t)`` is what the scheduler sets at its call ``t`` from now on, 0 being the next:
    the rate of the update ``t`` where it is attached to ``Events.ITERATION_STARTED``. One that is
    attached to ``EPOCH_STARTED`` wants ``.stretched(steps_per_epoch)``. It is left as it is; do not
    attach it to the trainer any more.

    PiecewiseLinear, LinearCyclicalScheduler, CosineAnnealingScheduler, LRScheduler over one of
    torch's, ParamGroupScheduler, ConcatScheduler and so ``create_lr_scheduler_with_warmup`` have
    closed forms. Anything else is sampled on a copy.

    Args:
        scheduler: The scheduler, at any point of a training.
        steps: Its calls from now on to convert. Needed where there is no closed form: cycles whose
            start and end change differently, classes of your own.
        group: Index of the parameter group; None: all groups have the same schedule.
        lr: The rate that the optimizer will be given; None: ``group["initial_lr"]``, which torch's
            schedulers leave there, or ``group["lr"]``, which may be 0 during a warm-up.

    Returns:
        A schedule of ``steps`` steps, endless for None.

    Raises:
        TypeError: No scheduler of ignite's; one that follows a metric, or sets something else.
        ValueError: ``steps`` is needed, or too many; groups differ and ``group`` is None; the base
            rate is 0.

    Source:
        ignite/handlers/param_scheduler.py, as of pytorch-ignite 0.5.5.
    """
    _check(scheduler)
    length = None if steps is None else whole("steps", steps, 1)
    owner = optimizer_of(scheduler)
    groups = range(len(owner.param_groups))
    found = []
    for i in groups if group is None else [groups[group]]:
        own = owner.param_groups[i]
        base = float(own.get("initial_lr", own["lr"])) if lr is None else finite("lr", lr)
        if base <= 0.0:
            raise ValueError(
                f"the base rate of group {i} is {base}, a factor needs one above 0: pass lr=, the "
                "rate that the optimizer will be given"
            )
        found.append(_rates(scheduler, i, length).scaled(1.0 / base))
    if any(schedule != found[0] for schedule in found):
        raise ValueError(
            "the groups have different schedules relative to their own lr: pass group= and give "
            "each group its own"
        )
    return found[0]


def is_ignites(scheduler: Any) -> bool:
    """Tell whether it is a scheduler of ignite, or of a class made from one."""
    return any(cls.__module__.startswith("ignite.handlers.") for cls in type(scheduler).__mro__)


def optimizer_of(scheduler: Any) -> Any:
    """Return the optimizer that a scheduler of ignite drives."""
    owner = scheduler.optimizer
    return owner[0] if isinstance(owner, list) else owner


def _check(scheduler: Any) -> None:
    name = type(scheduler).__name__
    if not is_ignites(scheduler):
        raise TypeError(
            f"got a {name}, it must be a scheduler of ignite.handlers: use from_torch for torch's"
        )
    if name == "ReduceLROnPlateauScheduler":
        raise TypeError(f"{name} follows a metric, which a schedule cannot: {ON_THE_HOST}")
    names = getattr(scheduler, "param_name", None)
    if {*(names if isinstance(names, list) else [names])} != {"lr"}:
        raise TypeError(f"the {name} moves {names!r}, only 'lr' can be converted: {ON_THE_HOST}")
    for child in getattr(scheduler, "schedulers", ()):
        _check(child)


def _rates(scheduler: Any, group: int, steps: int | None) -> Schedule:
    """The rates of the next calls, as they are."""
    now = float(optimizer_of(scheduler).param_groups[group]["lr"])
    try:
        found = _formula(scheduler, group, steps, now)
        return replace(found or constant(now), steps=steps)
    except _NeedsSteps:
        pass
    name = type(scheduler).__name__
    if steps is None:
        raise ValueError(
            f"this {name} has no closed form that is known here: pass steps=, the length of the "
            "training, to sample it"
        )

    def advance(copied: Any, t: int) -> None:
        copied(None)

    owner = optimizer_of(scheduler)
    return table(run_copy(scheduler, owner, name, steps + 1, advance).rates[group][1:])


def _formula(scheduler: Any, group: int, steps: int | None, now: float) -> Schedule | None:
    """The rates of the next ``steps`` calls in closed form; None where they leave the group alone.

    ``now`` is the rate before them.
    """
    name = type(scheduler).__name__ if type(scheduler).__module__ == MODULE else "of one's own"
    if name == "ParamGroupScheduler":
        parts = [_formula(each, group, steps, now) for each in scheduler.schedulers]
        return next((part for part in reversed(parts) if part is not None), None)
    if name == "ConcatScheduler":
        return _one_after_another(scheduler, group, steps, now)
    index = scheduler.param_group_index
    if index is not None and index % len(scheduler.optimizer.param_groups) != group:
        return None
    if name == "PiecewiseLinear":
        return _lines(scheduler)
    if name == "LRScheduler":
        return _of_torch(scheduler, group, steps, now)
    found = cycles(scheduler, steps) if name in CYCLICAL else None
    if found is None:
        raise _NeedsSteps
    return found


def _one_after_another(scheduler: Any, group: int, steps: int | None, now: float) -> Schedule:
    durations = (*scheduler.durations, -1)
    i, left = scheduler._scheduler_index, scheduler._current_duration
    if left == 0:
        i, left = i + 1, durations[i + 1]
    parts: list[Schedule] = []
    bounds: list[int] = []
    begin = 0
    while steps is None or begin < steps:
        rest = None if steps is None else steps - begin
        # One that is begun with no calls left never ends: its count has passed the 0.
        length = left if left > 0 else rest
        part = _formula(scheduler.schedulers[i], group, length, now)
        parts.append(constant(now) if part is None else part)
        if left <= 0:
            break
        now, begin = parts[-1](left - 1), begin + left
        bounds.append(begin)
        i, left = i + 1, durations[i + 1]
    else:
        parts.append(constant(now))
    return join_schedules(parts, bounds)


def _lines(scheduler: Any) -> Schedule:
    """PiecewiseLinear: lines between the milestones, the outer values before and after."""
    points = list(zip(scheduler.milestones, map(float, scheduler.values), strict=True))
    (first, low), (last, high) = points[0], points[-1]
    segments = [Segment.constant(low)] if first > 0 else []
    for (m, a), (n, b) in pairwise(points):
        if n > max(m, 0):
            segments.append(Segment(start=max(m, 0), origin=m, length=n - m, a=a, b=b))
    segments.append(Segment.constant(high, max(last, 0)))
    return Schedule(tuple(moved(segments, -scheduler.event_index)))


def _of_torch(scheduler: Any, group: int, steps: int | None, now: float) -> Schedule:
    """LRScheduler, which asks torch's for its get_lr() alone, and moves its ``last_epoch``."""
    inner = scheduler.lr_scheduler
    if not isinstance(inner, LRScheduler):  # in ignite's own shell, which steps it first
        inner = inner._lr_scheduler
    ahead = isinstance(inner, CosineAnnealingWarmRestarts)
    stepped = type(inner).step is not LRScheduler.step and not ahead
    if (
        stepped
        or isinstance(inner, SWALR)
        or stranger(inner)
        or getattr(inner, "cycle_momentum", False)
    ):
        raise _NeedsSteps
    leaf = copy.copy(inner)
    leaf.last_epoch -= 0 if ahead else 1
    box = Sandbox(leaf, group, live=True)
    box.group["lr"] = now / box.unit
    # CosineAnnealingLR takes its closed form at the first step, beyond which nobody counts here.
    at_first = isinstance(inner, CosineAnnealingLR) and inner._step_count == 1
    box.scheduler._step_count -= at_first
    box.step()
    begin: list[Segment] = []
    if at_first and inner.last_epoch == 0:  # where it has none
        begin.append(Segment.constant(box.lr))
        box.scheduler._step_count -= 1
        box.step()
    rest = None if steps is None else max(steps - len(begin), 1)
    return Schedule((*begin, *trace(box, rest, start=len(begin)))).scaled(box.unit)
