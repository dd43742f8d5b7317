"""Hugging Face's schedules, by the names and arguments of transformers.get_scheduler."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..schedules.checks import finite, whole
from ..schedules.schedule import Schedule
from ..schedules.segment import Kind, PastEnd, Segment

METRIC_DRIVEN = ("reduce_lr_on_plateau", "greedy")


def get_schedule(
    name: str,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
    *,
    lr: float | None = None,
    **kwargs: Any,
) -> Schedule:
    """Return the schedule that transformers.get_scheduler(name, ...) gives its optimizer.

    ``lr * schedule(t)`` is Hugging Face's rate at every step, with its warm-ups from 0: ``t / W``
    for ``t < W``. "cosine" therefore starts 0, 1/W, 2/W.

    Args:
        name: "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts",
            "polynomial", "inverse_sqrt", "cosine_with_min_lr", "cosine_warmup_with_min_lr" or
            "warmup_stable_decay" (a transformers.SchedulerType, too).
        num_warmup_steps: Steps of the warm-up.
        num_training_steps: Steps of the training, warm-up included.
        scheduler_specific_kwargs: What get_scheduler takes under this name.
        lr: The optimizer's learning rate, where an argument is an absolute rate: ``lr_end`` of
            "polynomial" and ``min_lr``.
        **kwargs: The same as scheduler_specific_kwargs: ``num_cycles``, ``power``, ``lr_end``,
            ``timescale``, ``min_lr``, ``min_lr_rate``, ``warmup_lr_rate``, ``num_decay_steps``,
            ``num_stable_steps``, ``warmup_type``, ``decay_type``, ``min_lr_ratio``.

    Returns:
        A schedule of ``num_training_steps`` steps, endless without.

    Raises:
        TypeError: An argument that the name does not take, or one that it needs and lacks.
        ValueError: An unknown or metric-driven name, or a value out of range.

    Source:
        transformers/optimization.py, as of transformers 5.

    Example:
        >>> get_schedule("linear", num_warmup_steps=2, num_training_steps=6)(range(7))
        [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
        >>> get_schedule("cosine_with_min_lr", 2, 6, min_lr_rate=0.1)
        Schedule(0: poly 0 -> 1 in 2; 2: cos 1 -> 0.1 in 4, every 8, on and on; steps=6)
    """
    name = str(getattr(name, "value", name))
    if name in METRIC_DRIVEN:
        raise ValueError(
            f"{name!r} follows a metric, no schedule can state it: build the scheduler itself over "
            'the fused optimizer, it works through group["lr"]'
        )
    if name not in BUILDERS:
        raise ValueError(f"name={name!r} is unknown: use one of {', '.join(map(repr, BUILDERS))}")
    arguments = {**(scheduler_specific_kwargs or {}), **kwargs}
    if num_warmup_steps is not None:
        arguments["num_warmup_steps"] = num_warmup_steps
    if num_training_steps is not None:
        arguments["num_training_steps"] = num_training_steps
    _make_relative(name, arguments, lr)
    if name == "constant":  # get_scheduler drops whatever comes with it
        arguments = {}
    if name == "constant_with_warmup":
        arguments.pop("num_training_steps", None)
    if name == "inverse_sqrt":
        arguments.pop("num_training_steps", None)
    try:
        schedule = BUILDERS[name](**arguments)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise TypeError(f"{name!r}: {error}, see transformers.get_scheduler for its own") from None
    if num_training_steps is None:
        return schedule
    return schedule.lasting(whole("num_training_steps", num_training_steps, 1))


def _make_relative(name: str, arguments: dict[str, Any], lr: float | None) -> None:
    """Turn absolute rates into factors, as Hugging Face does with ``optimizer.defaults["lr"]``."""
    if name == "polynomial":
        arguments.setdefault("lr_end", 1e-7)
    for absolute in ("lr_end", "min_lr"):
        if arguments.get(absolute) is None:
            arguments.pop(absolute, None)
            continue
        if lr is None:
            raise TypeError(
                f"{name!r} has the absolute rate {absolute}={arguments[absolute]!r}: pass lr=, the "
                "learning rate of the optimizer, too"
            )
        base = finite("lr", lr, 0.0, exclusive=True)
        value = finite(absolute, arguments.pop(absolute), 0.0)
        if absolute == "min_lr":
            if arguments.get("min_lr_rate") is not None:
                raise ValueError("got both min_lr and min_lr_rate: pass one of them")
            arguments["min_lr_rate"] = value / base
        else:
            if not base > value:
                raise ValueError(f"lr_end={value} must be below lr={base}: lower it")
            arguments["end"] = value / base


# -- one function a name; each segment starts on the global clock ---------------------------------


def _with_warmup(num_warmup_steps: int, after: list[Segment]) -> Schedule:
    """Rise from 0 as ``t / W`` before ``after``, whose first segment may start anywhere."""
    warmup = whole("num_warmup_steps", num_warmup_steps, 0)
    rest = [segment for i, segment in enumerate(after) if _rules(after, i, warmup)]
    rest[0] = replace(rest[0], start=warmup)
    rise = [Segment(length=warmup, a=0.0, b=1.0)] if warmup else []
    return Schedule((*rise, *rest))


def _rules(segments: list[Segment], i: int, first: int) -> bool:
    return i + 1 == len(segments) or segments[i + 1].start > first


def _constant() -> Schedule:
    return Schedule((Segment.constant(1.0),))


def _constant_with_warmup(num_warmup_steps: int) -> Schedule:
    return _with_warmup(num_warmup_steps, [Segment.constant(1.0)])


def _span(num_warmup_steps: int, num_training_steps: int) -> int:
    return max(1, num_training_steps - num_warmup_steps)


def _linear(num_warmup_steps: int, num_training_steps: int) -> Schedule:
    span = _span(num_warmup_steps, num_training_steps)
    # With less training than warm-up the line is beyond its end from the first.
    origin = min(num_warmup_steps, num_training_steps - span)
    return _with_warmup(num_warmup_steps, [Segment(origin=origin, length=span)])


def _cosine(
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr_rate: float = 0.0,
    shift: int = 0,
) -> Schedule:
    span = _span(num_warmup_steps, num_training_steps)
    half_waves = 2.0 * float(num_cycles)
    period = 2.0 * span / half_waves if half_waves else 0.0
    wave = Segment(
        Kind.COS,
        PastEnd.CONTINUE,
        origin=num_warmup_steps,
        period=int(period) if period.is_integer() else 0,
        shift=shift,
        length=span,
        m=half_waves,
        b=float(min_lr_rate),
    )
    return _with_warmup(num_warmup_steps, [wave])


def _cosine_with_restarts(
    num_warmup_steps: int, num_training_steps: int, num_cycles: int = 1
) -> Schedule:
    span, cycles = _span(num_warmup_steps, num_training_steps), float(num_cycles)
    end = num_warmup_steps + span
    waves = []
    for i in range(int(-(-cycles // 1))):
        # The first step t with (t - W) / span * cycles >= i, by the arithmetic of the original.
        first = int(i * span / cycles)
        while first and cycles * (float(first) / span) >= i:
            first -= 1
        while cycles * (float(first) / span) < i:
            first += 1
        waves.append(
            Segment(
                Kind.COS,
                start=num_warmup_steps + first,
                origin=num_warmup_steps + first,
                shift=first - i * span / cycles,
                length=span / cycles,
            )
        )
    waves = [w for i, w in enumerate(waves) if _rules(waves, i, w.start) and w.start < end]
    return _with_warmup(num_warmup_steps, [*waves, Segment.constant(0.0, end)])


def _polynomial(
    num_warmup_steps: int, num_training_steps: int, end: float, power: float = 1.0
) -> Schedule:
    span = num_training_steps - num_warmup_steps
    if span < 0:
        return _with_warmup(num_warmup_steps, [Segment.constant(end)])
    if span == 0:
        raise ValueError(
            f"'polynomial' divides by num_training_steps - num_warmup_steps, got "
            f"{num_training_steps} for both: train longer than the warm-up"
        )
    fall = Segment(origin=num_warmup_steps, length=span, b=end, p=float(power))
    return _with_warmup(num_warmup_steps, [fall])


def _inverse_sqrt(num_warmup_steps: int, timescale: int | None = None) -> Schedule:
    scale = num_warmup_steps or 10_000 if timescale is None else timescale
    fall = Segment(
        Kind.POW,
        PastEnd.CONTINUE,
        start=num_warmup_steps,
        origin=num_warmup_steps,
        length=scale,
        p=0.5,
    )
    return _with_warmup(num_warmup_steps, [fall])


def _cosine_with_min_lr(
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr_rate: float | None = None,
) -> Schedule:
    if min_lr_rate is None:
        raise TypeError("'cosine_with_min_lr' needs an argument min_lr or min_lr_rate: pass one")
    return _cosine(num_warmup_steps, num_training_steps, num_cycles, min_lr_rate)


def _cosine_warmup_with_min_lr(
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Schedule:
    if min_lr_rate is None:
        raise TypeError(
            "'cosine_warmup_with_min_lr' needs an argument min_lr or min_lr_rate: pass one"
        )
    schedule = _cosine(num_warmup_steps, num_training_steps, num_cycles, min_lr_rate, shift=1)
    if not num_warmup_steps:
        return schedule
    if warmup_lr_rate is None:
        rise = Segment(shift=1, length=num_warmup_steps, a=0.0, b=1.0)
    else:
        rise = Segment(length=max(1, num_warmup_steps - 1), a=float(warmup_lr_rate), b=1.0)
    return Schedule((rise, *schedule.segments[1:]))


def _warmup_stable_decay(
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> Schedule:
    if num_stable_steps is None:
        if num_training_steps is None:
            raise TypeError(
                "'warmup_stable_decay' needs an argument num_training_steps or num_stable_steps"
            )
        num_stable_steps = num_training_steps - num_warmup_steps - num_decay_steps
    low = float(min_lr_ratio)
    rises = {
        "linear": Segment(a=low, b=1.0),
        "cosine": Segment(Kind.COS, a=low, b=1.0),
        "1-sqrt": Segment(a=low, b=1.0, p=0.5),
    }
    falls = {
        "linear": Segment(b=low),
        "cosine": Segment(Kind.COS, PastEnd.CONTINUE, b=low, m=2.0 * float(num_cycles)),
        "1-sqrt": Segment(b=low, k=0.5),
    }
    for what, choice, among in (
        ("warmup_type", warmup_type, rises),
        ("decay_type", decay_type, falls),
    ):
        if choice not in among:
            raise ValueError(f"{what}={choice!r} is unknown: use one of {list(among)}")
    turn = num_warmup_steps + num_stable_steps
    parts: list[tuple[int, int, Segment]] = [
        (0, num_warmup_steps, replace(rises[warmup_type], length=max(1, num_warmup_steps))),
        (num_warmup_steps, turn, Segment.constant(1.0)),
        (turn, turn + num_decay_steps, replace(falls[decay_type], length=max(1, num_decay_steps))),
    ]
    segments, t = [], 0
    for origin, end, segment in parts:
        if end > t:
            segments.append(replace(segment, start=t, origin=origin))
            t = end
    return Schedule((*segments, Segment.constant(low, t)))


BUILDERS: dict[str, Callable[..., Schedule]] = {
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "warmup_stable_decay": _warmup_stable_decay,
}

LAMBDAS: dict[str, Callable[..., Schedule]] = {
    "_get_constant_lambda": _constant,
    "_get_constant_schedule_with_warmup_lr_lambda": _constant_with_warmup,
    "_get_linear_schedule_with_warmup_lr_lambda": _linear,
    "_get_cosine_schedule_with_warmup_lr_lambda": _cosine,
    "_get_cosine_with_hard_restarts_schedule_with_warmup_lr_lambda": _cosine_with_restarts,
    "_get_polynomial_decay_schedule_with_warmup_lr_lambda": lambda *, lr_end, lr_init, **rest: (
        _polynomial(end=lr_end / lr_init, **rest)
    ),
    "_get_inverse_sqrt_schedule_lr_lambda": _inverse_sqrt,
    "_get_cosine_with_min_lr_schedule_with_warmup_lr_rate_lambda": _cosine_warmup_with_min_lr,
    "_get_wsd_scheduler_lambda": _warmup_stable_decay,
}
"""Hugging Face's functions of the step, by name."""


def recognise(fn: Any) -> Schedule | None:
    """Return the schedule of a LambdaLR's function that transformers made, None for any other."""
    keywords: dict[str, Any] = {}
    if isinstance(fn, partial):
        if fn.args:
            return None
        fn, keywords = fn.func, dict(fn.keywords)
    if getattr(fn, "__module__", None) != "transformers.optimization":
        return None
    builder = LAMBDAS.get(getattr(fn, "__name__", ""))
    try:
        return builder(**keywords) if builder else None
    except (TypeError, ValueError):  # of another version, or of values that it would fail on, too
        return None
