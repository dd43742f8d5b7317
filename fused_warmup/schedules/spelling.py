"""A schedule written as calls of the builders that make it, for ``repr``.

Builders leave no trace in the data. So each part is tried against the calls that could have made
it, and a call counts only if it makes the very same segments.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from . import cycles, decay, policies, stairs, tables, warmup
from .products import product
from .schedule import Schedule
from .segment import Kind, PastEnd, Segment

MAX_TEXT = 300
"""Longest spelling; of what takes more, ``repr`` gives a summary that cannot be read back."""
MAX_PARTS = 8
MAX_VALUES = 16


@dataclass(frozen=True, slots=True)
class Spelt:
    """A schedule and the text that makes it, its parts joined by ``.then``."""

    parts: tuple[str, ...]
    schedule: Schedule

    @property
    def text(self) -> str:
        """The calls."""
        return self.parts[0] + "".join(f".then({part})" for part in self.parts[1:])


def spell(schedule: Schedule, longest: int = MAX_TEXT) -> str | None:
    """Return the calls that make a schedule, None if they would be longer than ``longest``.

    Example:
        >>> from fused_warmup.schedules import cosine, linear_warmup
        >>> spell(linear_warmup(4, start=0.5).then(cosine(8)))
        'linear_warmup(4, start=0.5).then(cosine(8))'
    """
    if schedule.factors:
        return _product(schedule, longest)
    segments = schedule.segments
    if sum(len(segment.values) for segment in segments) > MAX_VALUES:
        return None
    if len(segments) > MAX_PARTS and segments[0].kind is not Kind.COS:  # of many restarts
        return None
    try:
        spelt = _whole(schedule) or _joined(schedule)
    except (ArithmeticError, ValueError):  # numbers that no builder makes
        spelt = None
    if spelt is not None and spelt.schedule == schedule:
        text = spelt.text
    else:
        parts = ", ".join(map(_segment, segments))
        text = f"Schedule(({parts},), steps={schedule.steps})"
    return text if len(text) <= longest else None


def _product(schedule: Schedule, longest: int) -> str | None:
    factors = [spell(each, longest) for each in schedule.factors]
    text = " * ".join(map(str, factors))
    if product(schedule.factors).steps != schedule.steps:
        if schedule.steps is None:  # no call takes a length away
            text = f"Schedule((), None, ({', '.join(map(str, factors))}))"
        else:
            text = f"({text}).lasting({schedule.steps})"
    return text if None not in factors and len(text) <= longest else None


def _joined(schedule: Schedule) -> Spelt | None:
    """Spell the first part, and what follows it."""
    first, *rest = schedule.segments
    if not rest or len(rest) >= MAX_PARTS:
        return None
    length = rest[0].start
    head = _whole(Schedule((first,), length))
    if head is None:
        return None
    left = None if schedule.steps is None else schedule.steps - length
    if left is not None and left < 1:
        return None
    own = [replace(s, start=s.start - length, origin=s.origin - length) for s in rest]
    if tail := _spelt(own, left):
        joined = head.schedule.then(tail.schedule)
        if joined == schedule:
            return Spelt((*head.parts, *tail.parts), joined)
    if tail := _spelt(_from_the_start(rest), schedule.steps):
        joined = head.schedule.then(tail.schedule, clock="global")
        if joined == schedule:
            return Spelt((f'{head.text}.then({tail.text}, clock="global")',), joined)
    return None


def _from_the_start(segments: Sequence[Segment]) -> Sequence[Segment]:
    """The segments if the first ruled from step 0 on; none where it cannot."""
    try:
        return [replace(segments[0], start=0), *segments[1:]]
    except ValueError:
        return []


def _spelt(segments: Sequence[Segment], steps: int | None) -> Spelt | None:
    try:
        schedule = Schedule(tuple(segments), steps)
    except (TypeError, ValueError):
        return None
    return _whole(schedule) or _joined(schedule)


def _whole(schedule: Schedule) -> Spelt | None:
    """Spell what one builder makes, with ``.lasting`` where its length is another."""
    for builder, arguments, options in _calls(schedule):
        try:
            made = builder(*arguments, **options)
        except (TypeError, ValueError):
            continue
        if made.segments != schedule.segments:
            continue
        listed = [*map(_number, arguments), *(f"{k}={_number(v)}" for k, v in options.items())]
        text = f"{builder.__name__}({', '.join(listed)})"
        if made.steps == schedule.steps:
            return Spelt((text,), made)
        if schedule.steps is not None:
            return Spelt((f"{text}.lasting({schedule.steps})",), made.lasting(schedule.steps))
    return None


Call = tuple[Callable[..., Schedule], list[Any], dict[str, Any]]


def _calls(schedule: Schedule) -> Iterator[Call]:
    """Yield the calls of builders that may make a schedule."""
    first, *rest = schedule.segments
    if not rest:
        yield from _single(first, schedule.steps)
        return
    if schedule.steps is not None:
        yield policies.one_cycle, [schedule.steps], {}
    if len(rest) == 2:
        lengths = [rest[0].start, rest[1].start - rest[0].start, _int(rest[1].length)]
        for shape in ("cosine", "1-sqrt"):
            yield policies.warmup_stable_decay, lengths, {"decay": shape}
    if first.a == first.b and len(rest) == 1:
        yield warmup.constant_warmup, [rest[0].start], {"factor": first.a}
    if first.kind is Kind.EXP:
        yield warmup.exponential_warmup, [_int(first.length)], {"start": first.a}
    if first.a == first.b == 1.0:
        values = [1.0, *(segment.a for segment in rest)]
        for gamma in _near(values[1]):
            yield stairs.multi_step, [[s.start for s in rest]], {"gamma": gamma}
    if first.kind is Kind.COS:
        steps, after = _int(first.length), rest[0]
        given = {"end": first.b} if first.b else {}
        if first.period:
            count = {"cycles": after.start // first.period}
            yield cycles.cosine_restarts, [steps], given | count | _gain(first)
            return
        mult = {} if after.length == first.length else {"mult": _int(after.length / first.length)}
        amplitude = (after.a - after.b) / (first.a - first.b) if first.a != first.b else 1.0
        gain = {} if amplitude == 1.0 else {"cycle_gain": amplitude}
        yield cycles.cosine_restarts, [steps], mult | given | gain
        count = {"cycles": len(rest)}
        yield cycles.cosine_restarts, [steps], mult | given | gain | count


def _single(s: Segment, steps: int | None) -> Iterator[Call]:
    length = _int(s.length)
    end = {"end": s.b} if s.b else {}
    start = {"start": s.a} if s.a else {}
    shift = {"count_from": _int(s.shift)} if s.shift else {}
    if s.kind is Kind.TABLE:
        beyond = {"past_end": "repeat"} if s.period else {}
        yield tables.table, [list(s.values)], beyond
    elif s.a == s.b:
        if steps is None:
            yield decay.constant, [s.a] if s.a != 1.0 else [], {}
        else:
            yield decay.constant, [s.a, steps], {}
    elif s.kind is Kind.POLY:
        yield warmup.linear_warmup, [length], start | shift
        yield decay.linear, [length], ({} if s.a == 1.0 else {"start": s.a}) | end
        yield decay.polynomial, [length], {"power": _int(s.p)} | end
    elif s.kind is Kind.COS:
        yield warmup.cosine_warmup, [length], start | shift
        yield decay.cosine, [length], end
        yield cycles.cosine_restarts, [length], end | _gain(s)
    elif s.kind is Kind.POW:
        yield decay.inverse_sqrt, [length], {}
    elif s.kind is Kind.EXP:
        for gamma in _near(math.exp(s.p)):
            if s.stair > 1:
                yield stairs.step, [s.stair], {"gamma": gamma}
            yield decay.exponential, [gamma, length], {}


def _gain(s: Segment) -> dict[str, Any]:
    return {"cycle_gain": next(_near(math.exp(s.log_cycle_gain)))} if s.log_cycle_gain else {}


def _near(value: float) -> Iterator[float]:
    """Yield numbers with few digits first, of which ``value`` may be a logarithm and back."""
    for digits in range(6, 17):
        yield float(f"{value:.{digits}g}")
    yield value
    yield math.nextafter(value, math.inf)
    yield math.nextafter(value, -math.inf)


def _int(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _number(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_number, value))}]"
    return repr(_int(value) if isinstance(value, float) else value)


def _segment(segment: Segment) -> str:
    """A segment as the call of its class, with what is not the default."""
    said = []
    for each in fields(segment):
        value = getattr(segment, each.name)
        if value != each.default:
            shown = (
                f"{type(value).__name__}.{value.name}"
                if isinstance(value, (Kind, PastEnd))
                else repr(value)
            )
            said.append(f"{each.name}={shown}")
    return f"Segment({', '.join(said)})"
