"""Products of schedules: several tables of segments, multiplied at every step."""

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from .checks import FAR, MAX_SEGMENTS, MAX_VALUES, at_most, shown
from .schedule import Clock, Schedule
from .segment import Segment


def product(parts: Iterable[Schedule]) -> Schedule:
    """Multiply schedules at the same step; the product is as long as the longest of them."""
    factors = tuple(track for part in parts for track in part.tracks)
    lengths = [each.steps for each in factors if each.steps is not None]
    return Schedule((), max(lengths) if len(lengths) == len(factors) else None, factors)


def followed(first: Schedule, second: Schedule, clock: Clock) -> Schedule:
    """``first.then(second)`` where one of them is a product.

    Factor by factor; the side that has fewer goes on with ones. So products stay flat: a join of
    products is a product of joins.
    """
    steps = first.steps
    assert steps is not None
    one = Schedule((Segment.constant(1.0),))
    factors = tuple(
        # A factor may be over before the product is; it holds.
        before.lasting(steps).then(
            after if (after.steps or FAR) > steps else after.lasting(steps + 1), clock=clock
        )
        for before, after in zip_longest(first.tracks, second.tracks, fillvalue=one)
    )
    end = second.steps
    length = None if end is None else end if clock == "global" else steps + end
    return Schedule((), length, factors)


def check_product(whole: Schedule) -> None:
    """Raise unless a schedule with factors is a product of two plain ones or more.

    Raises:
        TypeError: A factor that is no schedule.
        ValueError: Segments beside the factors, one factor alone, a product among them, or more
            segments or values of tables than a schedule may have.
    """
    for each in whole.factors:
        if not isinstance(each, Schedule):
            raise TypeError(
                f"factors must hold Schedule objects, got {shown(each)} of type "
                f"{type(each).__name__}: multiply schedules with a * b"
            )
    if whole.segments or len(whole.factors) < 2 or any(each.factors for each in whole.factors):
        raise ValueError(
            f"a product has two factors or more and nothing beside them, got "
            f"{len(whole.factors)} factors and {len(whole.segments)} segments: multiply "
            "schedules with a * b"
        )
    segments = [segment for each in whole.factors for segment in each.segments]
    at_most("segments", len(segments), MAX_SEGMENTS)
    at_most("values", sum(len(segment.values) for segment in segments), MAX_VALUES)


def factors_from(plain: Any) -> tuple[Schedule, ...]:
    """Return the factors that `Schedule.to_dict` of a product lists.

    Raises:
        TypeError: They are no list of dicts.
        ValueError: A factor that cannot be one.
    """
    if not isinstance(plain, (list, tuple)):
        raise TypeError(
            f"the factors of a schedule's dict must be a list of dicts, got {shown(plain)}: pass "
            "what Schedule.to_dict() returned"
        )
    at_most("factors", len(plain), MAX_SEGMENTS)
    return tuple(map(Schedule.from_dict, plain))
