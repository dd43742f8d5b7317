"""Segments whose clock ticks once in many steps."""

from dataclasses import replace

from .checks import INT64_MAX
from .segment import Kind, Segment


def stretched_segment(segment: Segment, steps: int) -> list[Segment]:
    """Return segments whose value at ``t`` is the given one's at ``t // steps``.

    A table becomes one constant segment a value; one that repeats, or that runs backwards from a
    later origin, keeps its form with each value ``steps`` times.
    """
    start = segment.start * steps
    if start > INT64_MAX:
        return []
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
    if segment.period or segment.start != segment.origin:
        values = tuple(value for value in segment.values for _ in range(steps))
        period = segment.period * steps
        return [replace(moved, stair=segment.stair * steps, period=period, values=values)]
    return [Segment.constant(value, start + i * steps) for i, value in enumerate(segment.values)]
