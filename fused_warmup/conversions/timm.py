"""timm's schedulers as schedules."""

import math
from dataclasses import replace
from typing import Any

from ..schedules.checks import shown, whole
from ..schedules.schedule import Schedule
from ..schedules.segment import Kind, PastEnd, Segment
from ..schedules.tables import table
from .ahead.functions import remembers
from .ahead.own import check_length, run_copy

MAX_CYCLES = 256


def from_timm(
    scheduler: Any,
    *,
    steps_per_epoch: int | None = None,
    steps: int | None = None,
    group: int | None = None,
) -> Schedule:
    """Convert a scheduler of timm: CosineLRScheduler and the others of timm.scheduler.

    ``lr * schedule(t)``, with the optimizer's lr as timm found it, is timm's rate of the update
    ``t``: its warm-up ``warmup_lr_init + t * (lr - warmup_lr_init) / warmup_t``, ``warmup_prefix``,
    ``k_decay``, cycles and ``lr_min`` past the end, ``lr_scale`` of a group included. The momentum
    of a scheduler with another ``param_group_field`` than "lr" is not converted.

    Args:
        scheduler: The scheduler.
        steps_per_epoch: Updates per epoch, for a scheduler that counts epochs
            (``t_in_epochs=True``, timm's default): each rate holds for an epoch.
        steps: Length in units of the scheduler (epochs or updates). Needed where timm has no closed
            form here: noise, the tanh schedule, a stable phase that decays, functions of your own.
        group: Index of the parameter group; None: all groups have the same schedule.

    Returns:
        An endless schedule, of ``steps`` (times ``steps_per_epoch``) steps where that is given.

    Raises:
        TypeError: PlateauLRScheduler, which follows a metric; no scheduler of timm's; epochs
            without ``steps_per_epoch``.
        ValueError: ``steps`` is needed; groups differ and ``group`` is None; a class of your own
            that has been stepped.

    Source:
        timm/scheduler, as of timm 1.0.
    """
    if not is_timms(scheduler):
        raise TypeError(
            f"got {shown(scheduler)}, it must be a scheduler of timm: use from_torch for torch's, "
            "and of what create_scheduler_v2 returns pass the first, which is the scheduler"
        )
    name = type(scheduler).__name__
    if hasattr(scheduler, "lr_scheduler"):
        raise TypeError(
            f"{name} follows a metric, which a schedule cannot: build it with the fused optimizer, "
            'whose group["lr"] it may set'
        )
    if scheduler.t_in_epochs and steps_per_epoch is None:
        raise TypeError(
            f"the {name} counts epochs (t_in_epochs=True): pass steps_per_epoch=, its updates"
        )
    length = None if steps is None else whole("steps", steps, 1)
    groups = range(len(scheduler.base_values))
    wanted = groups if group is None else [groups[group]]
    if _is_a_function_of_the_step(scheduler):
        found = [_convert(scheduler, i, length) for i in wanted]
    else:
        found = [schedule for i, schedule in enumerate(_run(scheduler, length)) if i in wanted]
    if any(schedule != found[0] for schedule in found):
        raise ValueError(
            "the groups have different schedules relative to their own lr: pass group= and give "
            "each group its own"
        )
    if not scheduler.t_in_epochs or steps_per_epoch is None:
        return found[0]
    return found[0].stretched(whole("steps_per_epoch", steps_per_epoch, 1))


def is_timms(scheduler: Any) -> bool:
    """Tell whether it is a scheduler of timm, or of a class made from one."""
    return all(hasattr(scheduler, name) for name in ("_get_lr", "t_in_epochs", "base_values"))


def _is_a_function_of_the_step(scheduler: Any) -> bool:
    """Whether all that it says is said by timm: then it is a function of the step."""
    cls = type(scheduler)
    functions = [getattr(scheduler, name, None) for name in ("stable_fn", "decay_fn")]
    return (
        cls.__module__.startswith("timm.")
        and not any(callable(getattr(cls, name, None)) for name in vars(scheduler))
        and not any(callable(each) and remembers(each) for each in functions)
    )


def _run(scheduler: Any, steps: int | None) -> list[Schedule]:
    """A class of somebody's own, run ahead on a copy, as it is."""
    name, groups = type(scheduler).__name__, scheduler.optimizer.param_groups
    if steps is None:
        raise ValueError(_no_closed_form(name))
    for value, group in zip(scheduler.base_values, groups, strict=True):
        built = {value, getattr(scheduler, "warmup_lr_init", value)}
        if group["lr"] not in {each * group.get("lr_scale", 1.0) for each in built}:
            raise ValueError(
                f"{name} has no formula, and cannot be run from its start, for the rate "
                f"{group['lr']} is not its first one: pass a scheduler that has not been stepped"
            )

    def advance(copied: Any, t: int) -> None:
        (copied.step if copied.t_in_epochs else copied.step_update)(t)

    rates = run_copy(scheduler, scheduler.optimizer, name, steps, advance).rates
    pairs = zip(rates, scheduler.base_values, strict=True)
    return [table(row).scaled(1.0 / float(base)) for row, base in pairs]


def _no_closed_form(name: str) -> str:
    return (
        f"this {name} has no closed form here: pass steps=, the length of the training in its "
        "epochs or updates, to sample it"
    )


def _convert(scheduler: Any, i: int, steps: int | None) -> Schedule:
    base = float(scheduler.base_values[i])
    scale = float(scheduler.optimizer.param_groups[i].get("lr_scale", 1.0))
    builder = BUILDERS.get(type(scheduler).__name__)
    segments = None
    if builder is not None and scheduler.noise_range_t is None:
        segments = builder(scheduler, base)
    if segments is None:
        if steps is None:
            raise ValueError(_no_closed_form(type(scheduler).__name__))
        check_length(steps)
        rates = [scheduler._add_noise(scheduler._get_lr(t), t)[i] for t in range(steps)]
        segments = [Segment(Kind.TABLE, values=tuple(rate / base for rate in rates))]
    elif scheduler.warmup_t > 0:
        # The length may be fractional; the first step after it is a whole one.
        length, first = float(scheduler.warmup_t), math.ceil(scheduler.warmup_t)
        top = scheduler._get_lr(length)[i] if _joins_late(scheduler) else base
        rise = Segment(length=length, a=scheduler.warmup_lr_init / base, b=top / base)
        later = [s for n, s in enumerate(segments) if _rules(segments, n, first)]
        segments = [rise, replace(later[0], start=first), *later[1:]]
    schedule = Schedule(tuple(segments), steps)
    return schedule if scale == 1.0 else schedule.scaled(scale)


def _joins_late(scheduler: Any) -> bool:
    return type(scheduler).__name__ == "TanhLRScheduler" and not scheduler.warmup_prefix


def _rules(segments: list[Segment], i: int, first: int) -> bool:
    return i + 1 == len(segments) or segments[i + 1].start > first


def _origin(s: Any) -> float:
    """Where the schedule after the warm-up counts 0; between two steps, too."""
    return s.warmup_t if s.warmup_prefix else 0


def _cycles(s: Any, base: float, wave: Segment) -> list[Segment] | None:
    """One segment a cycle, then lr_min."""
    origin, low = _origin(s), s.lr_min / base
    if not 1 <= s.cycle_limit <= MAX_CYCLES or s.cycle_mul < 1.0:
        return None
    segments: list[Segment] = []
    begin = 0.0
    for i in range(s.cycle_limit):
        first = _first_step(s, i, begin)
        start = first if segments else 0
        length, high = s.cycle_mul**i * s.t_initial, s.cycle_decay**i
        placed = replace(wave, start=start, origin=first, shift=first - origin - begin)
        segments.append(replace(placed, length=length, a=high, b=low))
        begin += length
    segments.append(Segment.constant(low, _first_step(s, s.cycle_limit, begin)))
    return [segment for n, segment in enumerate(segments) if _rules(segments, n, segment.start)]


def _first_step(s: Any, cycle: int, begin: float) -> int:
    """The first step of a cycle by timm's own logarithm, which may round to the next."""
    origin = _origin(s)
    t = math.ceil(origin + begin)
    if s.cycle_mul != 1.0:
        growth = 1 - s.cycle_mul
        while math.floor(math.log(1 - (t - origin) / s.t_initial * growth, s.cycle_mul)) < cycle:
            t += 1
    return t


def _cosine(s: Any, base: float) -> list[Segment] | None:
    return _cycles(s, base, Segment(Kind.COS, k=s.k_decay))


def _poly(s: Any, base: float) -> list[Segment] | None:
    return _cycles(s, base, Segment(p=s.power, k=s.k_decay))


def _step(s: Any, base: float) -> list[Segment] | None:
    size, origin = s.decay_t, _origin(s)
    if s.decay_rate == 1.0:
        return [Segment.constant(1.0)]
    if size != int(size) or s.decay_rate <= 0.0:
        return None
    fall = Segment(
        Kind.EXP,
        PastEnd.CONTINUE,
        origin=math.ceil(origin),
        stair=int(size),
        length=size,
        p=math.log(s.decay_rate),
    )
    return [fall]


def _multi_step(s: Any, base: float) -> list[Segment] | None:
    origin = _origin(s)
    values = {0: 1.0}
    for count, milestone in enumerate(s.decay_t, start=1):
        # timm compares with t + 1: a milestone of 10 takes effect at 9
        values[max(0, math.ceil(origin + milestone) - 1)] = s.decay_rate**count
    return [Segment.constant(value, start) for start, value in sorted(values.items())]


def _wsd(s: Any, base: float) -> list[Segment] | None:
    falls = {
        "linear": Segment(),
        "1-sqrt": Segment(k=0.5),
        "cosine": Segment(Kind.COS),
        "power": Segment(k=s.decay_power),
    }
    if s.stable_fn != "constant" or s.decay_fn not in falls or base < s.lr_min:
        return None
    first, low = math.ceil(s.warmup_t + s.t_initial - s.decay_t), s.lr_min / base
    shift = first - s.warmup_t - (s.t_initial - s.decay_t)  # rounded as timm's: a root magnifies it
    clock = {"start": first, "origin": first, "shift": shift, "length": s.decay_t}
    fall = replace(falls[s.decay_fn], **clock, b=low)
    return [Segment.constant(1.0), fall] if first else [fall]


BUILDERS = {
    "CosineLRScheduler": _cosine,
    "PolyLRScheduler": _poly,
    "StepLRScheduler": _step,
    "MultiStepLRScheduler": _multi_step,
    "WSDLRScheduler": _wsd,
}
