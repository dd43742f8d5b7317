"""The segments of a schedule together: their order, which one rules a step, their summary."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from .checks import INT64_MAX, MAX_VALUES, at_most, shown
from .segment import Kind, PastEnd, Segment
from .signs import check_factors


def check_segments(segments: Sequence[Segment]) -> None:
    """Raise where segments make no schedule.

    Raises:
        TypeError: One of them is something else.
        ValueError: None, a gap before the first, starts out of order, too many values, a factor
            below 0.
    """
    if not segments:
        raise ValueError("a schedule got no segments, it needs at least one: add a Segment")
    for segment in segments:
        if not isinstance(segment, Segment):
            raise TypeError(
                f"segments must hold Segment objects, got {shown(segment)} of type "
                f"{type(segment).__name__}: use Schedule.from_dict for plain data"
            )
    starts = [segment.start for segment in segments]
    if starts[0] != 0:
        raise ValueError(
            f"a gap: the first segment must start at step 0, got start={starts[0]}: "
            "put a segment before it"
        )
    for before, after in pairwise(starts):
        if after <= before:
            raise ValueError(
                f"starts of segments must increase, got {after} after {before}: sort the "
                "segments by start and drop the empty ones"
            )
    at_most("values", sum(len(segment.values) for segment in segments), MAX_VALUES)
    lasts = [start - 1 for start in starts[1:]] + [INT64_MAX]
    for segment, last in zip(segments, lasts, strict=True):
        check_factors(segment, last)


def ruling(segments: Sequence[Segment], t: int) -> int:
    """Return the index of the segment that step ``t`` is in."""
    # By hand: torch.compile warns that it cannot trace the bisect module.
    found, after = 0, len(segments)
    while after - found > 1:
        middle = (found + after) // 2
        found, after = (middle, after) if segments[middle].start <= t else (found, middle)
    return found


def later(segments: Iterable[Segment], steps: int, length: int = INT64_MAX) -> Iterator[Segment]:
    """Yield segments that rule ``steps`` later, those of the first ``length`` steps."""
    for segment in segments:
        if segment.start < length and segment.start + steps <= INT64_MAX:
            yield replace(segment, start=segment.start + steps, origin=segment.origin + steps)


def scaled(segments: Iterable[Segment], factor: float) -> Iterator[Segment]:
    """Yield segments with every value multiplied by ``factor``."""
    for segment in segments:
        values = tuple(value * factor for value in segment.values)
        yield replace(segment, a=segment.a * factor, b=segment.b * factor, values=values)


def summary(segments: Sequence[Segment]) -> str:
    """Return the segments in a few words each, for people; of many, the first and the last."""
    found = [f"{segment.start}: {_summary(segment)}" for segment in segments]
    if len(found) > 6:
        found[4:-1] = [f"... {len(found) - 5} more ..."]
    return "; ".join(found)


def _summary(segment: Segment) -> str:
    if segment.kind is Kind.TABLE:
        text = f"table of {len(segment.values)}"
    elif segment.a == segment.b:
        return f"{segment.a:.6g}"
    else:
        text = f"{segment.kind.name.lower()} {segment.a:.6g} -> {segment.b:.6g}"
        text += f" in {segment.length:.6g}"
    if segment.period:
        text += f", every {segment.period}"
    if segment.past_end is PastEnd.CONTINUE:
        text += ", on and on"
    return text
