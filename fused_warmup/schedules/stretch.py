"""Segments whose clock ticks once in many steps, or at another pace."""

from collections.abc import Sequence
from dataclasses import replace

from .checks import FAR, MAX_SEGMENTS, MAX_VALUES, at_most
from .segment import Kind, Segment


def stretched_segment(segment: Segment, steps: int) -> list[Segment]:
    """Return segments whose value at ``t`` is the given one's at ``t // steps``.

    A table becomes one constant segment a value; one that repeats, or that runs backwards from a
    later origin, keeps its form with each value ``steps`` times.

    Raises:
        ValueError: A clock would leave int64, or a table hold too many values.
    """
    start = segment.start * steps
    clock = max(abs(segment.origin), segment.stair, segment.period) * steps
    if clock > FAR:
        raise ValueError(
            f"a clock must stay within 2**62 steps, stretched by {steps} it would count {clock} in "
            f"{segment}: stretch by fewer"
        )
    moved = replace(segment, start=start, origin=segment.origin * steps)
    if segment.kind is not Kind.TABLE:
        return [
            replace(
                moved,
                stair=segment.stair * steps,
                period=segment.period * steps,
                shift=segment.shift * steps,
                length=segment.length * steps,
            )
        ]
    n = len(segment.values)
    if segment.period or segment.start != segment.origin or n > MAX_SEGMENTS:
        at_most("values", n * steps, MAX_VALUES)
        values = tuple(value for value in segment.values for _ in range(steps))
        period = segment.period * steps
        return [replace(moved, stair=segment.stair * steps, period=period, values=values)]
    return [Segment.constant(value, start + i * steps) for i, value in enumerate(segment.values)]


def segments_at_pace(segments: Sequence[Segment], new: int, old: int) -> list[Segment]:
    """Return segments whose value at ``t`` is that of the given ones' curves at ``t * old / new``.

    Raises:
        ValueError: One counts in whole steps: it has stairs, cycles or a table.
    """
    found: list[Segment] = []
    for segment in segments:
        if segment.kind is Kind.TABLE or segment.stair > 1 or segment.period:
            raise ValueError(
                f"{segment} counts in whole steps, of which {old} cannot become {new}: build the "
                "schedule anew for the new number of steps"
            )
        start, origin = -(-segment.start * new // old), segment.origin * new // old
        if found and found[-1].start == start and start > 0:
            found.pop()  # it has no whole step left
        pace = new / old
        shift = (segment.shift - segment.origin) * pace + origin
        length = segment.length * pace
        found.append(replace(segment, start=start, origin=origin, shift=shift, length=length))
    return found
