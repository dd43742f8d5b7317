"""What each class of torch's schedulers does between two events, as one segment.

A law starts from the rate in force, so it holds wherever the recursion has come from. Local time
is 0 now; each law says for how many more steps it holds, None for ever.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from ...schedules.schedule import Schedule
from ...schedules.segment import Kind, PastEnd, Segment
from ..ahead.own import check_length
from ..hugging_face import recognise
from ..libraries import kind_of
from . import cyclic, library_laws
from .annealing import Law, cosine


def constant(value: float, steps: int | None = None) -> Law:
    """The rate stays."""
    return Segment.constant(value), steps


def _step(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    size, gamma = leaf.step_size, leaf.gamma
    if gamma == 0.0 and leaf.last_epoch >= 0:
        return constant(lr, None if lr == 0.0 else size - leaf.last_epoch % size - 1)
    if gamma < 0.0 or leaf.last_epoch < 0:
        return None
    stair = Segment(
        Kind.EXP,
        PastEnd.CONTINUE,
        origin=-(leaf.last_epoch % size),
        stair=size,
        length=size,
        a=lr,
        p=math.log(gamma),
    )
    return stair, None


def _exponential(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    return exponential(lr, [leaf.gamma])


def exponential(lr: float, gammas: list[float]) -> Law | None:
    """Several exponentials over one rate are one."""
    if lr == 0.0:
        return constant(lr)
    if min(gammas) <= 0.0:
        return None
    rate = sum(map(math.log, gammas))
    return Segment(Kind.EXP, PastEnd.CONTINUE, a=lr, p=rate), None


def _linear(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    e, start, end, total = leaf.last_epoch, leaf.start_factor, leaf.end_factor, leaf.total_iters
    if e >= total:
        return constant(lr)
    now = start + (end - start) * e / total if e >= 0 else 0.0
    if now == 0.0:
        return None
    unit = lr / now
    return Segment(origin=-e, length=total, a=start * unit, b=end * unit), None


def _polynomial(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    e, total, power = leaf.last_epoch, leaf.total_iters, leaf.power
    if e >= total:
        return constant(lr)
    if e < 0 or power < 0:
        return None
    return Segment(origin=-e, length=total, a=lr / (1.0 - e / total) ** power, p=power), None


def _cosine(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    return cosine(leaf.last_epoch, leaf.T_max, leaf.eta_min, leaf.base_lrs[0], lr)


def _warm_restarts(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    e, cycle = leaf.T_cur, leaf.T_i
    if int(e) != e or leaf.last_epoch < 0:
        return None
    wave = Segment(
        Kind.COS,
        origin=-int(e),
        period=int(cycle) if leaf.T_mult == 1 else 0,
        length=cycle,
        a=leaf.base_lrs[0],
        b=leaf.eta_min,
    )
    return wave, None if leaf.T_mult == 1 else int(cycle - e) - 1


def _lambda(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    fn = leaf.lr_lambdas[0]
    schedule = fn if isinstance(fn, Schedule) else recognise(fn)
    if schedule is None or leaf.last_epoch < 0:
        return None
    e, base = leaf.last_epoch, leaf.base_lrs[0]
    if base == 0.0:
        return constant(0.0)
    later = [segment.start for segment in schedule.segments if segment.start > e]
    ruling = schedule.scaled(base).segments[len(schedule.segments) - len(later) - 1]
    here = replace(ruling, start=0, origin=ruling.origin - e)
    return here, (later[0] - e - 1 if later else None)


def _cyclic(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    low, high = leaf.base_lrs[0], leaf.max_lrs[0]
    wave = cyclic.wave(leaf, low, high)
    return cyclic.line(leaf, low, high) if wave is None else (wave, None)


def _one_cycle(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    e, begin = leaf.last_epoch, 0.0
    if e >= leaf.total_steps:  # one rate past its last, then torch refuses to go on
        return Segment(Kind.TABLE, values=(lr, group["min_lr"])), None
    phases = leaf._schedule_phases
    for i, phase in enumerate(phases):
        end, last = phase["end_step"], i == len(phases) - 1
        if e <= end or last:
            break
        begin = end
    left = (leaf.total_steps - 1 if last else math.floor(end)) - e
    return (
        Segment(
            Kind.COS if leaf._anneal_func_type == "cos" else Kind.POLY,
            PastEnd.CONTINUE,
            shift=e - begin,
            length=end - begin,
            a=group[phase["start_lr"]],
            b=group[phase["end_lr"]],
        ),
        left,
    )


def _swa(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    e, length, low = leaf._step_count - 1, leaf.anneal_epochs, group["swa_lr"]
    now = leaf.anneal_func(max(0, min(1, max(e, 0) / max(1, length))))
    if now == 1.0:
        return constant(lr) if lr == low else None
    if length == 0:
        return None
    first = (lr - now * low) / (1.0 - now)
    kind = Kind.COS if leaf._anneal_strategy == "cos" else Kind.POLY
    return Segment(kind, origin=-e, length=length, a=first, b=low), None


LAWS: dict[Any, Callable[[Any, float, dict[str, Any]], Law | None]] = {
    lr_scheduler.StepLR.get_lr: _step,
    lr_scheduler.ExponentialLR.get_lr: _exponential,
    lr_scheduler.LinearLR.get_lr: _linear,
    lr_scheduler.PolynomialLR.get_lr: _polynomial,
    lr_scheduler.CosineAnnealingLR.get_lr: _cosine,
    lr_scheduler.CosineAnnealingWarmRestarts.get_lr: _warm_restarts,
    lr_scheduler.LambdaLR.get_lr: _lambda,
    lr_scheduler.CyclicLR.get_lr: _cyclic,
    lr_scheduler.OneCycleLR.get_lr: _one_cycle,
    SWALR.get_lr: _swa,
    **library_laws.LAWS,
}
FINITE = {
    lr_scheduler.MultiStepLR.get_lr,
    lr_scheduler.ConstantLR.get_lr,
    lr_scheduler.LinearLR.get_lr,
    lr_scheduler.PolynomialLR.get_lr,
    lr_scheduler.OneCycleLR.get_lr,
}
"""Classes that leave the rate alone from some step on."""


def is_exponential(leaf: Any) -> bool:
    """Tell whether a scheduler multiplies the rate by the same number at each step."""
    return kind_of(leaf) is lr_scheduler.ExponentialLR.get_lr


def has_law(leaf: Any) -> bool:
    """Tell whether a scheduler is of a class that has a law."""
    return kind_of(leaf) in LAWS


def is_endless(leaf: Any) -> bool:
    """Tell whether a scheduler goes on moving the rate for ever."""
    return kind_of(leaf) not in FINITE


def law_of(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    """Return the law of the steps from now on, None where there is none but the scheduler's own."""
    law = LAWS.get(kind_of(leaf))
    return None if law is None else law(leaf, lr, group)


def values_ahead(leaf: Any, lr: float, group: dict[str, Any], steps: int) -> list[float]:
    """Return the rates of the next steps where each is worked out from its number, by no law."""
    kind = kind_of(leaf)
    by_number = kind in (lr_scheduler.LambdaLR.get_lr, lr_scheduler.CyclicLR.get_lr)
    if not by_number or law_of(leaf, lr, group) is not None:
        return []
    check_length(steps)
    ahead, base = range(leaf.last_epoch + 1, leaf.last_epoch + 1 + steps), leaf.base_lrs[0]
    if kind is lr_scheduler.CyclicLR.get_lr:
        return cyclic.values(leaf, base, leaf.max_lrs[0], ahead)
    return [float(base * leaf.lr_lambdas[0](t)) for t in ahead]


def quiet_steps(leaf: Any) -> int | None:
    """Return for how many more steps a scheduler leaves the rate as it is, None for ever."""
    e, kind = leaf.last_epoch, kind_of(leaf)
    if kind is lr_scheduler.ExponentialLR.get_lr:
        return None if leaf.gamma == 1.0 else 0
    if kind in (lr_scheduler.LinearLR.get_lr, lr_scheduler.PolynomialLR.get_lr):
        return None if e >= leaf.total_iters else 0
    if e < 0:
        return 0
    if kind is lr_scheduler.ConstantLR.get_lr:
        return None if e >= leaf.total_iters else int(leaf.total_iters) - e - 1
    if kind is lr_scheduler.StepLR.get_lr:
        return int(leaf.step_size - e % leaf.step_size) - 1
    if kind is lr_scheduler.MultiStepLR.get_lr:
        later = [m for m in leaf.milestones if m > e]
        return min(later) - e - 1 if later else None
    return 0


def can_state(leaf: Any) -> bool:
    """Tell whether some law will state what a scheduler does from some step on."""
    kind = kind_of(leaf)
    if kind is lr_scheduler.LambdaLR.get_lr:
        fn = leaf.lr_lambdas[0]
        return isinstance(fn, Schedule) or recognise(fn) is not None
    if kind is lr_scheduler.CyclicLR.get_lr:
        return cyclic.has_wave(leaf)
    if kind is lr_scheduler.CosineAnnealingLR.get_lr:
        return bool(int(2 * leaf.T_max) == 2 * leaf.T_max)
    if kind in (lr_scheduler.StepLR.get_lr, lr_scheduler.ExponentialLR.get_lr):
        return bool(leaf.gamma >= 0)
    if kind in library_laws.LAWS:
        return library_laws.can_state(leaf)
    return kind in LAWS
