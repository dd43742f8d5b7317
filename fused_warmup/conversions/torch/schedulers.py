"""torch's schedulers as schedules: torch's own code where they meet, formulas in between."""

from dataclasses import replace
from typing import Any

from ...schedules.checks import finite, whole
from ...schedules.schedule import Schedule
from ...schedules.segment import Kind, Segment
from ...schedules.tables import table
from ..ahead.known import stranger
from ..ahead.own import check_length, check_unused, run_ahead
from ..ahead.sandbox import Sandbox, check_convertible, optimizer_of
from . import laws
from .annealing import Law

HORIZON = 2**62
"""Where an endless series of ever longer segments is cut."""
MAX_SEGMENTS = 256
"""Most segments of a trace that was given a length; a longer one becomes a table."""


def from_torch(
    scheduler: Any, *, steps: int | None = None, group: int | None = None, lr: float | None = None
) -> Schedule:
    """Convert a scheduler of torch.optim.lr_scheduler, SequentialLR and ChainedScheduler included.

    ``lr * schedule(t)`` is the rate that the scheduler gives after ``t`` of its steps, counted from
    its construction however far it has got since; the scheduler and its optimizer are left as they
    are. A scheduler that is stepped once an epoch wants ``.stretched(steps_per_epoch)``.

    The result is the scheduler's own behaviour, past its end and where it is odd, too:
    CosineAnnealingLR rises again after T_max, a SequentialLR inside another one starts a step
    early, OneCycleLR has one more rate after its last (then torch raises an error, and here the
    lowest rate stays). Whatever has a closed form becomes one; lambdas become a table of ``steps``
    values. The momentum that OneCycleLR and CyclicLR cycle is `momentum_from_torch`'s.

    Three classes of other libraries are known as torch's are: GradualWarmupScheduler of
    warmup-scheduler, with what comes after it, CosineAnnealingWarmupRestarts of
    cosine-annealing-with-warmup, and Lightning Bolts' LinearWarmupCosineAnnealingLR.

    A class of your own, and a lambda that may remember its calls (a callable object, a counter that
    it writes to), is never started over: a copy of it is run ahead as it is, before its first step.
    `convert` goes on with one that has run. What it reads of other objects stays as it is now; a
    scheduler that looks at the model, the parameters or a metric belongs on the host, where it
    works through ``group["lr"]``.

    Args:
        scheduler: The scheduler, over any optimizer.
        steps: Length in steps of the scheduler. Needed for lambdas and for schedulers of your own,
            which are sampled, and for a ChainedScheduler of two that never end. The last sample
            stays.
        group: Index of the parameter group; None: all groups have the same schedule.
        lr: The rate that the optimizer will be given; None: ``group["initial_lr"]``, which is the
            torch optimizer's lr (``max_lr / div_factor`` under OneCycleLR, ``base_lr`` under
            CyclicLR).

    Returns:
        A schedule of ``steps`` steps, endless for None.

    Raises:
        TypeError: ReduceLROnPlateau, which stays on the host and works through ``group["lr"]``, and
            whatever else follows the training or cannot be copied; no scheduler of torch's.
        ValueError: ``steps`` is needed, or too many to sample; groups differ and ``group`` is None;
            the base rate is 0; a scheduler of your own that has run, or moves other options.

    Source:
        torch 2.13; warmup-scheduler 0.3 and ildoonet/pytorch-gradual-warmup-lr 7021d63;
        katsura-jp/pytorch-cosine-annealing-with-warmup 12d03c0; lightning-bolts 0.7.0.

    Example:
        >>> import torch
        >>> opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        >>> warmup = torch.optim.lr_scheduler.LinearLR(opt, 0.25, total_iters=3)
        >>> decay = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)
        >>> both = torch.optim.lr_scheduler.SequentialLR(opt, [warmup, decay], [3])
        >>> from_torch(both)
        linear_warmup(3, start=0.25).then(exponential(0.5, 1))
        >>> from_torch(both)(range(6))
        [0.25, 0.5, 0.75, 1.0, 0.5, 0.25]
    """
    check_convertible(scheduler)
    length = None if steps is None else whole("steps", steps, 1)
    n_groups = len(optimizer_of(scheduler).param_groups)
    groups = range(n_groups) if group is None else [range(n_groups)[group]]
    bases = [_base(scheduler, i, lr) for i in groups]
    if stranger(scheduler) is None:
        schedules = [
            _convert(scheduler, i, length, base) for i, base in zip(groups, bases, strict=True)
        ]
    else:
        check_unused(scheduler)
        rates = run_ahead(scheduler, length).rates
        schedules = [
            table(rates[i]).scaled(1.0 / base) for i, base in zip(groups, bases, strict=True)
        ]
    for i, schedule in enumerate(schedules):
        if not _alike(schedule, schedules[0]):
            raise ValueError(
                f"groups 0 and {i} have different schedules relative to their initial_lr: pass "
                "group= and give each group its own schedule, or use convert()"
            )
    return schedules[0]


def _base(scheduler: Any, group: int, lr: float | None) -> float:
    own = optimizer_of(scheduler).param_groups[group]
    base = float(own.get("initial_lr", own["lr"])) if lr is None else finite("lr", lr)
    if base <= 0.0:
        raise ValueError(
            f"the base rate of group {group} is {base}, a factor needs one above 0: pass lr=, the "
            "rate that the optimizer will be given"
        )
    return base


def _convert(scheduler: Any, group: int, steps: int | None, base: float) -> Schedule:
    box = Sandbox(scheduler, group, live=False)
    schedule = Schedule(tuple(trace(box, steps)), steps)
    return schedule if box.unit == base else schedule.scaled(box.unit / base)


def _alike(a: Schedule, b: Schedule) -> bool:
    """Compare but for rounding: each group divides its rates by its own base."""
    if a == b:
        return True
    if len(a.segments) != len(b.segments):
        return False
    for one, other in zip(a.segments, b.segments, strict=True):
        plain = [
            replace(each, a=0.0, b=0.0, values=each.values and (0.0,)) for each in (one, other)
        ]
        mine, others = (each.values or (each.a,) for each in (one, other))
        numbers = zip((one.b, *mine), (other.b, *others), strict=True)
        if plain[0] != plain[1] or any(abs(x - y) > 1e-14 * max(abs(x), 1.0) for x, y in numbers):
            return False
    return True


def trace(box: Sandbox, steps: int | None, start: int = 0) -> list[Segment]:
    """Follow a sandbox from step ``start`` on and return the segments of what it does.

    Raises:
        ValueError: It takes a table to state it, and ``steps`` is None.
    """
    pieces: list[Segment] = []
    samples: list[float] = []
    t = start

    def flush() -> None:
        first = t - len(samples)
        rounding = 1e-15 * box.unit  # torch's recursions may pass a zero by as much
        samples[:] = [0.0 if -rounding < rate < 0.0 else rate for rate in samples]
        if len(samples) == 1:
            put(Segment.constant(samples.pop(), first))
        elif samples:
            pieces.append(Segment(Kind.TABLE, start=first, origin=first, values=tuple(samples)))
            samples.clear()

    def put(segment: Segment) -> None:
        flush()
        if not (pieces and _is_constant(pieces[-1], segment.a) and _is_constant(segment)):
            pieces.append(segment)

    while t < HORIZON and (steps is None or t < start + steps):
        if steps is not None and len(pieces) + len(samples) > MAX_SEGMENTS:
            check_length(steps)
        active, limit = box.active()
        if steps is None and limit is None:
            _check_statable(active)
        segment, left = _next(box, active, limit)
        if segment is None or left == 0:
            samples.append(box.lr)
            if steps is not None and segment is None and len(active) == 1:
                ahead = min(steps + start - t, steps if limit is None else limit) - 1
                more = laws.values_ahead(active[0], box.lr, box.group, ahead)
                if more:
                    box.jump(len(more), more[-1])
                samples += more
                t += len(more)
            left = 0
        else:
            placed = replace(segment, start=t, origin=t + segment.origin)
            if placed.values and not placed.period:
                # OneCycleLR one step past its last, which on a line may be below 0: torch then
                # refuses to go on.
                placed = replace(placed, values=tuple(max(v, 0.0) for v in placed.values))
            put(placed)
            if left is None:
                return pieces
            box.jump(left, placed.value_at(t + left))
        t += left + 1
        if steps is None or t < start + steps:
            box.step()
    if samples:
        flush()
    elif steps is not None:
        t = start + steps  # a formula may hold for longer, but the last value stays
        put(Segment.constant(pieces[-1].value_at(t - 1), t))
    if len(pieces) > MAX_SEGMENTS:
        everything = Schedule((replace(pieces[0], start=0), *pieces[1:]))
        values = tuple(everything(range(start, t)))
        return [Segment(Kind.TABLE, start=start, origin=start, values=values)]
    return pieces


def forward(box: Sandbox, steps: int) -> None:
    """Move a sandbox on by ``steps`` steps."""
    while steps:
        segment, left = _next(box, *box.active())
        left = steps if left is None else min(left, steps)
        if segment is not None and left:
            box.jump(left, segment.value_at(left))
            steps -= left
        if steps:
            box.step()
            steps -= 1


def _next(box: Sandbox, active: list[Any], limit: int | None) -> tuple[Segment | None, int | None]:
    """The formula of the next steps, and for how many more of them it holds; None for ever."""
    segment, left = _law(box, active) or (None, 0)
    if limit is not None:
        left = limit - 1 if left is None else min(left, limit - 1)
    return segment, left


def _is_constant(segment: Segment, value: float | None = None) -> bool:
    constant = segment.kind is Kind.POLY and segment.a == segment.b
    return constant and value in (None, segment.a)


def _law(box: Sandbox, active: list[Any]) -> Law | None:
    """Return the one formula that states the next steps of all active leaves, if there is one."""
    lr = box.lr
    quiet = [laws.quiet_steps(leaf) for leaf in active]
    busy = [leaf for leaf, n in zip(active, quiet, strict=True) if n == 0]
    calm = min((n for n in quiet if n), default=None)
    moving = [leaf for leaf, n in zip(active, quiet, strict=True) if n is not None]
    if len(moving) == 1 and laws.has_law(moving[0]):
        busy, calm = moving, None
    if not busy:
        return laws.constant(lr, calm)
    if all(map(laws.is_exponential, busy)):
        law = laws.exponential(lr, [leaf.gamma for leaf in busy])
    else:
        law = laws.law_of(busy[0], lr, box.group) if len(busy) == 1 else None
    if law is None:
        return None
    segment, holds = law
    # A law that assigns rates instead of multiplying them says nothing of what others did just now.
    if abs(segment.value_at(0) - lr) > 1e-11 * max(abs(lr), abs(segment.a - segment.b)):
        return None
    return segment, min((n for n in (holds, calm) if n is not None), default=None)


def _check_statable(active: list[Any]) -> None:
    endless = [
        leaf for leaf in active if laws.is_endless(leaf) and laws.quiet_steps(leaf) is not None
    ]
    if all(leaf.gamma > 0 if laws.is_exponential(leaf) else False for leaf in endless):
        return
    names = [type(leaf).__name__ for leaf in endless]
    if len(endless) > 1:
        raise ValueError(
            f"{' and '.join(names)} change one rate without end, for which there is no formula "
            "here: pass steps=, the length of the training, for a table"
        )
    if not laws.can_state(endless[0]):
        raise ValueError(
            f"{names[0]} has no closed form that is known here: pass steps=, the length of the "
            "training, to sample it"
        )
