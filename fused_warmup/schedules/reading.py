"""Reads what `Schedule.to_dict` wrote."""

from collections.abc import Mapping
from typing import Any

from .checks import MAX_SEGMENTS, at_most, shown
from .segment import Segment


def fields_from(plain: Any) -> tuple[tuple[Segment, ...], Any, tuple[Any, ...]]:
    """Return the segments, the steps and the factors of a schedule's dict.

    Raises:
        TypeError: It is no mapping, or its segments are no list of mappings; a field of the wrong
            type.
        ValueError: Missing or unknown keys; a field out of its range.
    """
    if not isinstance(plain, Mapping):
        raise TypeError(
            f"a schedule must be a Schedule or the dict of Schedule.to_dict(), got "
            f"{shown(plain)} of type {type(plain).__name__}: see fused_warmup.schedules "
            "for builders"
        )
    if set(plain) == {"factors", "steps"}:
        from .products import factors_from

        return (), plain["steps"], factors_from(plain["factors"])
    if set(plain) != {"segments", "steps"}:
        raise ValueError(
            f"a schedule's dict must have the keys 'segments' and 'steps', or 'factors' and "
            f"'steps', got {shown(list(plain))}: pass what Schedule.to_dict() returned"
        )
    segments = plain["segments"]
    if isinstance(segments, (list, tuple)):
        at_most("segments", len(segments), MAX_SEGMENTS)
    if not isinstance(segments, (list, tuple)) or not all(
        isinstance(segment, Mapping) for segment in segments
    ):
        raise TypeError(
            f"the segments of a schedule's dict must be a list of dicts, got "
            f"{shown(segments)}: pass what Schedule.to_dict() returned"
        )
    return tuple(map(Segment.from_dict, segments)), plain["steps"], ()
