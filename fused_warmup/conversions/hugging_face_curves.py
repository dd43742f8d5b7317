"""Hugging Face's schedules, one function a name; each segment is placed on the global clock.

Source: transformers/optimization.py, as of transformers 5.
"""

from collections.abc import Callable
from dataclasses import replace

from ..schedules.checks import finite, whole
from ..schedules.schedule import Schedule
from ..schedules.segment import Kind, PastEnd, Segment

MAX_CYCLES = 4096
"""Most restarts that are spelt out, one segment each."""


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
    span = _span(num_warmup_steps, num_training_steps)
    cycles = finite("num_cycles", num_cycles)
    if cycles > MAX_CYCLES:
        raise ValueError(
            f"num_cycles={num_cycles} is too many, at most {MAX_CYCLES} restarts are spelt out: "
            "use schedules.cosine_restarts, which repeats without end"
        )
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
