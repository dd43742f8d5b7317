"""A group's schedules begun anew: a backbone that thaws gets a warm-up of its own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .._groups.options import RESTARTED, START, plain_schedule
from ..schedules import Schedule
from ..schedules.checks import shown
from ..schedules.plain import PlainSchedule

Groups = Sequence[dict[str, Any]]


def restart(groups: Groups, group: int | dict[str, Any], step: int) -> None:
    """Put the step 0 of a group's schedules at ``step``; see `BaseOptimizer.restart_schedule`."""
    chosen = _chosen(groups, group)
    plain = {name: plain_schedule(chosen[name], name) for name in RESTARTED}
    if not any(plain.values()):
        raise ValueError(
            "the group follows no schedule that could begin anew: give it one, group['schedule'] = "
            "linear_warmup(...).starting_at(opt.steps_applied)"
        )
    chosen |= {name: moved(each, chosen[START], step) for name, each in plain.items()}
    chosen[START] = step


def moved(plain: PlainSchedule | None, before: int, start: int) -> PlainSchedule | None:
    """Return a schedule as one that begins at ``start``; where it began ``before``, from there."""
    if plain is None:
        return None
    return PlainSchedule(_from_its_start(plain.schedule, before).starting_at(start))


def was_moved(plain: PlainSchedule | None, start: int) -> bool:
    """Tell whether a schedule begins at ``start``: a restarted group may be given another later."""
    if plain is None or start == 0:
        return plain is not None
    return _from_its_start(plain.schedule, start) is not plain.schedule


def _chosen(groups: Groups, group: int | dict[str, Any]) -> dict[str, Any]:
    if isinstance(group, int) and -len(groups) <= group < len(groups):
        return groups[group]
    for each in groups:
        if each is group:
            return each
    raise ValueError(
        f"group must be one of the optimizer's {len(groups)} groups or its index, got "
        f"{'another dict' if isinstance(group, dict) else shown(group)}: take it from "
        "opt.param_groups"
    )


def _from_its_start(schedule: Schedule, start: int) -> Schedule:
    """The schedule whose `starting_at` made this one; itself where none did."""
    tracks = [_track_from(track, start) for track in schedule.tracks]
    if start == 0 or None in tracks:
        return schedule
    steps = None if schedule.steps is None else schedule.steps - start
    first, *more = (track for track in tracks if track is not None)
    earlier = Schedule((), steps, (first, *more)) if more else replace(first, steps=steps)
    return earlier if earlier.starting_at(start) == schedule else schedule


def _track_from(track: Schedule, start: int) -> Schedule | None:
    _, *rest = track.segments
    if not rest or rest[0].start != start or (track.steps or start + 1) <= start:
        return None
    moved = (replace(s, start=s.start - start, origin=s.origin - start) for s in rest)
    return Schedule(tuple(moved), None if track.steps is None else track.steps - start)
