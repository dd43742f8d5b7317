"""Joining schedules: two by `Schedule.then`, many at given steps as optax does."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, zip_longest

from .checks import INT64_MAX, listed, shown, whole
from .products import followed
from .schedule import Clock, Schedule
from .segment import Segment
from .segments import later, ruling


def then(first: Schedule, second: Schedule, clock: Clock) -> Schedule:
    """Return ``first`` for its steps, followed by ``second``; see `Schedule.then`.

    Raises:
        ValueError: ``first`` is endless, the clock is unknown, or (``"global"``) ``second`` is over
            before it.
    """
    if clock not in ("own", "global"):
        raise ValueError(f"clock must be 'own' or 'global', got {shown(clock)}: use one of these")
    end = first.steps
    if end is None:
        raise ValueError(
            "an endless schedule (steps=None) cannot be followed: give it a length with "
            ".lasting(steps)"
        )
    if clock == "global" and second.steps is not None and second.steps <= end:
        raise ValueError(
            f"on the global clock what follows must outlast the first {end} steps, got "
            f"steps={second.steps}: make it longer or use clock='own'"
        )
    if first.factors or second.factors:
        return followed(first, second, clock)
    head = tuple(segment for segment in first.segments if segment.start < end)
    if clock == "global":
        at = ruling(second.segments, end)
        ruler = replace(second.segments[at], start=end)
        return Schedule((*head, ruler, *second.segments[at + 1 :]), second.steps)
    tail = later(second.segments, end)
    return Schedule((*head, *tail), None if second.steps is None else end + second.steps)


def join_schedules(schedules: Iterable[Schedule], boundaries: Sequence[int]) -> Schedule:
    """Follow one schedule after another, each on its own clock from its boundary on.

    ``schedules[i](t - boundaries[i - 1])`` for ``boundaries[i - 1] <= t < boundaries[i]``; the same
    as chains of ``.lasting(...).then(...)``, for endless schedules too.

    Args:
        schedules: What to follow.
        boundaries: The steps at which the second and later ones begin, in order; where two are
            equal the schedule between them is left out.

    Returns:
        A schedule that is over when its last part is.

    Raises:
        TypeError: Something that is no schedule, or a boundary that is no integer.
        ValueError: Not one boundary fewer than schedules, or boundaries out of order.

    Source:
        optax.join_schedules.

    Example:
        >>> from fused_warmup.schedules import constant, linear_warmup, step
        >>> join_schedules([linear_warmup(2), constant(), step(2, 0.5)], [2, 4])(range(9))
        [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    """
    parts = listed("schedules", schedules)
    for part in parts:
        if not isinstance(part, Schedule):
            raise TypeError(
                f"got a {type(part).__name__} among the schedules: build Schedules only"
            )
    bounds = [whole("boundaries", boundary, 0) for boundary in listed("boundaries", boundaries)]
    if len(bounds) != len(parts) - 1:
        raise ValueError(
            f"{len(parts)} schedules got {len(bounds)} boundaries, one fewer than schedules is "
            "needed: give the step at which each but the first begins"
        )
    if any(after < before for before, after in pairwise(bounds)):
        raise ValueError(f"boundaries must not decrease, got {shown(bounds)}: sort them")
    last, begin = parts[-1].steps, bounds[-1] if bounds else 0
    steps = None if last is None else begin + last
    one = Schedule((Segment.constant(1.0),))
    tracks = zip_longest(*(part.tracks for part in parts), fillvalue=one)
    joined = [Schedule(tuple(_joined(track, bounds)), steps) for track in tracks]
    return joined[0] if len(joined) == 1 else Schedule((), steps, tuple(joined))


def _joined(parts: Iterable[Schedule], bounds: Sequence[int]) -> Iterator[Segment]:
    for part, begin, end in zip(parts, [0, *bounds], [*bounds, INT64_MAX], strict=True):
        yield from later(part.segments, begin, end - begin)
