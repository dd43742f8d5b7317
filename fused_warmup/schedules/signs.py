"""That no factor is below 0, told from few of a segment's values: a rate never changes its sign."""

import math

from .checks import INT64_MAX
from .segment import Kind, PastEnd, Segment, real_pow

HALF_WAVES = 4
"""As many of a cosine's half waves are looked at one by one."""


def check_factors(segment: Segment, last: int) -> None:
    """Raise where a segment is below 0, or is no number, at a step from its start to ``last``.

    Raises:
        ValueError: It is; the error names the step.

    Example:
        >>> check_factors(Segment(length=4, b=-1.0), last=10)
        Traceback (most recent call last):
        ValueError: factors must be at least 0, got -1.0 at step 4 of Segment(POLY, length=4.0, ...
    """
    if _keeps_between(segment) and _lowest_end(segment) >= 0.0:
        return
    rounding = 2.0**-50 * max(abs(segment.a), abs(segment.b))  # of what ends at 0
    for t in _extremes(segment, last):
        value = segment.value_at(t)
        if not value >= -rounding or (segment.values and value < 0.0):
            raise ValueError(
                f"factors must be at least 0, got {value} at step {t} of {segment}: raise the "
                "heights or the values, or begin the next segment before that step"
            )
    # Steps may meet many waves at any height.
    first, final = _half_waves(segment, *_clocks(segment, last))
    if final - first > HALF_WAVES and _lowest_end(segment) < -rounding:
        raise ValueError(
            f"factors must be at least 0, got waves down to {_lowest_end(segment)} in {segment}: "
            "raise a and b"
        )


def _lowest_end(segment: Segment) -> float:
    """The lower of the two heights between which a formula moves, or a table with its cycles."""
    if segment.kind is not Kind.TABLE:
        return min(segment.a, segment.b)
    lowest = min(segment.values)
    return min(lowest, segment.b) if segment.log_cycle_gain else lowest


def _keeps_between(segment: Segment) -> bool:
    """Whether a formula stays between its two heights at every step."""
    goes_on = segment.past_end is PastEnd.CONTINUE
    if segment.log_cycle_gain > 0.0:
        return False
    if segment.kind is Kind.EXP:
        return not goes_on and segment.p <= 0.0
    if segment.kind is Kind.POW:
        return not goes_on and segment.p >= 0.0
    return segment.kind is not Kind.POLY or not goes_on


def _extremes(segment: Segment, last: int) -> list[int]:
    """The steps among which a segment's lowest value is.

    Between them a formula rises or falls all the way, and so does a gain from cycle to cycle.
    """
    begin, end = segment.start - segment.origin, min(last - segment.origin, INT64_MAX)
    if segment.period:
        first, final = begin // segment.period, end // segment.period
        found = set()
        for cycle in {first, min(first + 1, final), max(final - 1, first), final}:
            # The first and the last cycle may be in parts only.
            cycle_begin = cycle * segment.period
            clocks = max(begin - cycle_begin, 0), min(end - cycle_begin, segment.period - 1)
            found |= {cycle_begin + n for n in (*clocks, *_turns(segment, *clocks))}
    else:
        found = set(_turns(segment, begin, end))
    return sorted(segment.origin + n for n in {begin, end, *found} if begin <= n <= end)


def _clocks(segment: Segment, last: int) -> tuple[int, int]:
    """The lowest and the highest that the clock comes to, before a stair holds it back."""
    if segment.period:
        return 0, segment.period - 1
    return segment.start - segment.origin, min(last - segment.origin, INT64_MAX)


def _half_waves(segment: Segment, begin: int, end: int) -> tuple[float, float]:
    """The half waves of a cosine that are over at two clocks."""
    if segment.kind is not Kind.COS:
        return 0.0, 0.0
    ends = [(n + segment.shift) / segment.length for n in (float(begin), float(end))]
    if segment.past_end is PastEnd.HOLD:
        ends = [min(max(x, 0.0), 1.0) for x in ends]
    first, final = sorted(abs(segment.m) * real_pow(abs(x), segment.k) for x in ends)
    return (0.0 if ends[0] < 0.0 < ends[1] else first), final


def _turns(segment: Segment, begin: int, end: int) -> list[int]:
    """The clocks on both sides of where a formula may turn, and of a table's lowest value."""
    if segment.kind is Kind.TABLE:
        seen = range(max(begin, 0) // segment.stair * segment.stair, len(segment.values))
        seen = seen[: max(end + 1 - seen.start, 0) : segment.stair]
        turns = [float(min(seen, key=segment.values.__getitem__, default=0))]
    else:
        places = [-1.0, 0.0, 1.0]
        if segment.kind is Kind.COS and segment.m:
            over = math.floor(_half_waves(segment, begin, end)[0])
            halves = [half / abs(segment.m) for half in range(over, over + HALF_WAVES + 2)]
            places += [
                sign * real_pow(half, 1.0 / segment.k) for half in halves for sign in (1, -1)
            ]
        turns = [place * segment.length - segment.shift for place in places]
    stair = segment.stair
    before = [int(n) // stair * stair for n in turns if math.isfinite(n) and begin - 1 <= n <= end]
    return [n + more for n in before for more in (0, stair)]
