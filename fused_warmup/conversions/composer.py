"""MosaicML Composer's schedulers as schedules, from live ones or from llm-foundry's configs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import reduce
from operator import mul
from typing import Any

from ..schedules.checks import finite, listed, shown
from ..schedules.decay import constant, exponential
from ..schedules.schedule import Schedule
from ..schedules.segment import Kind, Segment
from ..schedules.stairs import multi_step, step
from .composer_times import Durations
from .configs.reading import Options

WARMUP: dict[str, Any] = {"t_warmup": None, "t_max": "1dur", "scale_warmup": False}
DEFAULTS: dict[str, dict[str, Any]] = {
    "StepScheduler": {"step_size": None, "gamma": 0.1},
    "MultiStepScheduler": {"milestones": None, "gamma": 0.1},
    "ConstantScheduler": {"alpha": 1.0, "t_max": "1dur"},
    "LinearScheduler": {"alpha_i": 1.0, "alpha_f": 0.0, "t_max": "1dur"},
    "ExponentialScheduler": {"gamma": None, "decay_period": "1ep"},
    "CosineAnnealingScheduler": {"t_max": "1dur", "alpha_f": 0.0},
    "CosineAnnealingWarmRestartsScheduler": {"t_0": None, "t_mult": 1.0, "alpha_f": 0.0},
    "PolynomialScheduler": {"power": None, "t_max": "1dur", "alpha_f": 0.0},
    "MultiStepWithWarmupScheduler": {
        **{"t_warmup": None, "milestones": None, "gamma": 0.1, "scale_warmup": False}
    },
    "ConstantWithWarmupScheduler": {**WARMUP, "alpha": 1.0},
    "LinearWithWarmupScheduler": {**WARMUP, "alpha_i": 1.0, "alpha_f": 0.0},
    "CosineAnnealingWithWarmupScheduler": {**WARMUP, "alpha_f": 0.0},
    "PolynomialWithWarmupScheduler": {**WARMUP, "power": 2.0, "alpha_f": 0.0},
}
"""Arguments and their defaults, of Composer 0.32.1; None: it must be given."""
NAMES = {
    "constant_with_warmup": "ConstantWithWarmupScheduler",
    "cosine_with_warmup": "CosineAnnealingWithWarmupScheduler",
    "linear_decay_with_warmup": "LinearWithWarmupScheduler",
}
"""llm-foundry's names of them."""


def from_composer(
    scheduler: Any,
    max_duration: Any,
    *,
    steps_per_epoch: int | None = None,
    scale_schedule_ratio: float = 1.0,
) -> Schedule:
    """Convert a scheduler of MosaicML's Composer, stepped after each batch as by default.

    Composer's schedulers return factors on the optimizer's rate. Those with a warm-up, W and T
    being ``t_warmup`` and ``t_max`` in batches, are ``alpha_i t / W`` for ``t < W``, then fall with
    ``x = min((t - W) / (T - W), 1)`` to ``alpha_f``: Linear
    ``alpha_i + (alpha_f - alpha_i) x``, Cosine ``alpha_f + (1 - alpha_f) (1 + cos(pi x)) / 2``,
    Polynomial ``alpha_f + (1 - alpha_f) (1 - x)^power``. The first three factors with
    ``t_warmup="4ba"`` are 0, 0.25, 0.5. With ``scale_warmup`` Composer scales the ramp, but leaves
    it after W batches all the same, and so it is here.

    Args:
        scheduler: The scheduler; or a mapping of its ``name``, the class's or llm-foundry's, and
            its arguments; or a list of them, whose factors are multiplied.
        max_duration: The Trainer's: "90ep", "4800ba" or a Time.
        steps_per_epoch: Batches of an epoch, where a time is in epochs ("ep").
        scale_schedule_ratio: The Trainer's; scales max_duration and the times, but for warm-ups.

    Returns:
        A schedule as long as the training.

    Raises:
        TypeError: No scheduler of Composer's; ``steps_per_epoch`` or an argument is missing.
        ValueError: A time in samples, tokens, iterations or seconds, or one that is none; an
            unknown name or argument; a ``t_max`` before the end of the training, which Composer
            refuses after a warm-up; lengths that come to nothing.

    Source:
        composer/optim/scheduler.py and composer/core/time.py of mosaicml 0.32.1.

    Example:
        >>> config = {"name": "cosine_with_warmup", "t_warmup": "2ba", "alpha_f": 0.1}
        >>> schedule = from_composer(config, "6ba")
        >>> [round(factor, 3) for factor in schedule(range(7))]
        [0.0, 0.5, 1.0, 0.868, 0.55, 0.232, 0.1]
    """
    ratio = finite("scale_schedule_ratio", scale_schedule_ratio, 0.0, exclusive=True)
    times = Durations(max_duration, steps_per_epoch, ratio)
    if isinstance(scheduler, list | tuple):
        parts = [_convert(each, times) for each in scheduler]
        return reduce(mul, parts) if parts else constant(1.0, times.end)
    return _convert(scheduler, times)


def _convert(scheduler: Any, times: Durations) -> Schedule:
    if isinstance(scheduler, Mapping):
        given = dict(scheduler)
        name = given.pop("name", None)
        name = NAMES.get(name, name)
        if name not in DEFAULTS:
            raise ValueError(
                f"name must be one of {[*DEFAULTS, *NAMES]}, got {shown(name)}: use one of these, "
                "or build the schedule with fused_warmup.schedules"
            )
    else:
        name = type(scheduler).__name__
        if type(scheduler).__module__ != "composer.optim.scheduler" or name not in DEFAULTS:
            raise TypeError(
                f"got {shown(scheduler)} of type {name}, it must be a scheduler of "
                "composer.optim: use schedules.from_callable for a function of the step"
            )
        given = {each: getattr(scheduler, each) for each in DEFAULTS[name]}
    options = Options(f"Composer's {name}", given, DEFAULTS[name])
    if unknown := given.keys() - DEFAULTS[name].keys():
        raise ValueError(f"{name} takes no {sorted(unknown)}: use only {list(DEFAULTS[name])}")
    if missing := [each for each in DEFAULTS[name] if options[each] is None]:
        raise TypeError(f"{name} needs {missing}: give them as its config says")
    return replace(Schedule(tuple(BUILDERS[name](options, times))), steps=times.end)


def _step(options: Options, times: Durations) -> Iterable[Segment]:
    size = times.batches("step_size", options["step_size"], minimum=1)
    return step(size, options.number("gamma")).segments


def _drops(options: Options, times: Durations) -> Iterable[Segment]:
    given = listed("milestones", options["milestones"])
    drops = [times.batches("milestones", each) for each in given]
    gamma = options.number("gamma")
    return multi_step(drops, gamma).segments if drops else constant().segments


def _constant(options: Options, times: Durations) -> Iterable[Segment]:
    end = times.batches("t_max", options["t_max"])
    held = [Segment.constant(options.number("alpha"))] if end else []
    return [*held, Segment.constant(1.0, start=end)]


def _exponential(options: Options, times: Durations) -> Iterable[Segment]:
    period = times.batches("decay_period", options["decay_period"], minimum=1)
    return exponential(options.number("gamma"), period).segments


def _restarts(options: Options, times: Durations) -> Iterable[Segment]:
    length, growth = times.batches("t_0", options["t_0"], minimum=1), options.number("t_mult")
    fall = Segment(Kind.COS, length=length, b=options.number("alpha_f"))
    if int(growth * length) == length:
        yield replace(fall, period=length)
        return
    begin = 0
    while begin < times.end:
        if length < 1:
            raise ValueError(
                f"with t_mult={growth} the cycles shrink to nothing after {begin} batches: raise it"
            )
        yield replace(fall, start=begin, origin=begin, length=length)
        begin, length = begin + length, int(growth * length)


def _falling(shape: Callable[[Options], Segment]) -> Callable[[Options, Durations], Any]:
    """A fall over ``t_max``."""

    def build(options: Options, times: Durations) -> Iterable[Segment]:
        fall = shape(options)
        return [replace(fall, length=times.batches("t_max", options["t_max"], minimum=1))]

    return build


def _warmed(shape: Callable[[Options], Segment]) -> Callable[[Options, Durations], Any]:
    """A ramp up to where the fall begins, which is then what is left of ``t_max``."""

    def build(options: Options, times: Durations) -> Iterable[Segment]:
        fall = shape(options)
        end = times.batches("t_max", options["t_max"])
        if end < times.end:
            raise ValueError(
                f"t_max is {end} batches and the training {times.end}, after which Composer's "
                "warm-up schedulers say nothing: give a t_max of max_duration or more"
            )
        warm, ramp = _ramp(options, times, fall.a)
        if end <= warm:
            return [*ramp, Segment.constant(fall.a, start=warm)]
        return [*ramp, replace(fall, start=warm, origin=warm, length=end - warm)]

    return build


def _ramp(options: Options, times: Durations, top: float) -> tuple[int, list[Segment]]:
    """How many batches a warm-up takes, and the ramp."""
    warm = times.batches("t_warmup", options["t_warmup"], scaled=False)
    if warm == 0:
        return 0, []
    length = warm
    if options["scale_warmup"]:
        length = times.batches("t_warmup, scaled,", options["t_warmup"], minimum=1)
    return warm, [Segment(length=length, a=0.0, b=top)]


def _warmed_drops(options: Options, times: Durations) -> Iterable[Segment]:
    warm, ramp = _ramp(options, times, 1.0)
    drops = Schedule(tuple(_drops(options, times)))
    if not ramp:
        return drops.segments
    return Schedule(tuple(ramp), warm).then(drops, clock="global").segments


def _line(options: Options) -> Segment:
    return Segment(a=options.number("alpha_i"), b=options.number("alpha_f"))


def _level(options: Options) -> Segment:
    return Segment.constant(options.number("alpha"))


def _half_wave(options: Options) -> Segment:
    return Segment(Kind.COS, b=options.number("alpha_f"))


def _power(options: Options) -> Segment:
    return Segment(p=options.number("power"), b=options.number("alpha_f"))


BUILDERS: dict[str, Callable[[Options, Durations], Iterable[Segment]]] = {
    "StepScheduler": _step,
    "MultiStepScheduler": _drops,
    "ConstantScheduler": _constant,
    "LinearScheduler": _falling(_line),
    "ExponentialScheduler": _exponential,
    "CosineAnnealingScheduler": _falling(_half_wave),
    "CosineAnnealingWarmRestartsScheduler": _restarts,
    "PolynomialScheduler": _falling(_power),
    "MultiStepWithWarmupScheduler": _warmed_drops,
    "ConstantWithWarmupScheduler": _warmed(_level),
    "LinearWithWarmupScheduler": _warmed(_line),
    "CosineAnnealingWithWarmupScheduler": _warmed(_half_wave),
    "PolynomialWithWarmupScheduler": _warmed(_power),
}
