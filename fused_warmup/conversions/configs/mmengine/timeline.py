"""Several of MMEngine's schedulers over one value: slices in which their closed forms hold."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ....schedules.checks import MAX_VALUES, at_most
from ....schedules.products import product
from ....schedules.schedule import Schedule
from ....schedules.segment import Kind, PastEnd, Segment
from ....schedules.segments import ruling
from .laws import Law

MAX_SLICES = 4096
"""Most slices of a training; a cosine that goes up and down at every step would have more."""


@dataclass(frozen=True)
class Clocked:
    """A law and when it ticks.

    Args:
        name: What errors call it.
        law: What its ticks do.
        begin: Its first tick.
        tick: Steps from one tick to the next: those of an epoch, or 1.
        by_epoch: Whether it counts epochs, which end after the steps that they consist of.
    """

    name: str
    law: Law
    begin: int
    tick: int
    by_epoch: bool

    @property
    def end(self) -> int | None:
        """The step from which on it rests; None: never."""
        return None if self.law.length is None else (self.begin + self.law.length) * self.tick

    def count(self, step: int) -> int:
        """Return its own last tick at a step; negative before its begin."""
        return step // self.tick - self.begin

    def rules(self, step: int) -> bool:
        """Tell whether a step lies in its range."""
        return self.count(step) >= 0 and (self.end is None or step < self.end)

    def ticks_at(self, step: int) -> bool:
        """Tell whether it makes a new value at a step."""
        return self.rules(step) and step % self.tick == 0

    def next_move(self, step: int) -> int | None:
        """Return the next step at which it changes the value, while it rules; None: none."""
        n = self.law.next_move(self.count(step))
        return None if n is None else (self.begin + n) * self.tick

    def cuts(self) -> Iterator[int]:
        """Yield the steps at which a slice must begin."""
        yield self.begin * self.tick
        if self.end is not None:
            yield self.end
        for n in self.law.cuts():
            if self.law.length is None or n < self.law.length:
                yield (self.begin + n) * self.tick

    def curve(self, step: int, value: float) -> list[Segment]:
        """Return its values from a step on, at which it is ``value``, on the clock of steps."""
        tick, curve = self.tick, self.law.curve(self.count(step), value)
        on_steps = [
            replace(
                segment,
                start=(segment.start + self.begin) * tick,
                origin=(segment.origin + self.begin) * tick,
                stair=segment.stair * tick,
                shift=segment.shift * tick,
                length=segment.length * tick,
            )
            for segment in curve
        ]
        first = ruling(on_steps, step)
        if math.isclose(on_steps[first].value_at(step), value, rel_tol=1e-12):
            return _from(on_steps[first:], step)
        # It sets its own value at each tick, and another scheduler has moved this one since.
        after = (step // tick + 1) * tick
        return [Segment.constant(value, step), *_from(on_steps[ruling(on_steps, after) :], after)]


def _from(segments: list[Segment], step: int) -> list[Segment]:
    return [replace(each, start=max(step, each.start)) for each in segments]


def follow(schedulers: Sequence[Clocked], steps: int | None) -> Schedule:
    """Return the value at every step that schedulers make of 1, in MMEngine's order.

    Schedulers that count steps come before those that count epochs; within these, in the order of
    the list; at step 0, where all are built, the list's.

    Raises:
        ValueError: Too many slices; two schedulers that never end and have no product.
    """
    cuts = sorted({0, *(cut for each in schedulers for cut in each.cuts())})
    cuts = [cut for cut in cuts if steps is None or cut < steps]
    if len(cuts) > MAX_SLICES:
        raise ValueError(
            f"the schedulers make {len(cuts)} pieces, at most {MAX_SLICES} are made: give a longer "
            "T_max, or fewer milestones"
        )
    at_later_steps = sorted(schedulers, key=lambda each: each.by_epoch)
    value = 1.0
    tracks: list[list[Segment]] = [[]]
    for begin, end in zip(cuts, [*cuts[1:], steps], strict=True):
        for each in at_later_steps if begin else schedulers:
            if each.ticks_at(begin):
                value = each.law.apply(each.count(begin), value)
        value = _unless_rounded_below_zero(value)
        _append(tracks, _slice(at_later_steps, begin, end, value), begin)
        if end is not None:
            value = math.prod(track[ruling(track, end - 1)].value_at(end - 1) for track in tracks)
    if steps is not None:
        for track in tracks:
            _end(track, steps)
    schedules = [Schedule(tuple(track), steps) for track in tracks]
    return schedules[0] if len(schedules) == 1 else product(schedules)


def _append(tracks: list[list[Segment]], curves: list[list[Segment]], begin: int) -> None:
    """Put a slice behind those before it; a factor that it has not is 1."""
    while len(tracks) < len(curves):
        tracks.append([Segment.constant(1.0)] if begin else [])
    for i, track in enumerate(tracks):
        track[:] = [segment for segment in track if segment.start < begin]  # a curve cut short
        curve = curves[i] if i < len(curves) else [Segment.constant(1.0, begin)]
        for segment in curve:
            if not (track and _goes_on(track[-1], segment)):
                track.append(segment)


def _end(track: list[Segment], steps: int) -> None:
    """Hold a cosine where the training ends if, moved below its low, it would go on below 0."""
    last = track[-1]
    if last.kind is Kind.COS and last.past_end is PastEnd.CONTINUE and last.a < 0.0:
        track.append(Segment.constant(last.value_at(steps - 1), steps))


def _unless_rounded_below_zero(value: float) -> float:
    """A difference of two values may pass a zero by a rounding."""
    return 0.0 if -1e-15 < value < 0.0 else value


def _goes_on(before: Segment, after: Segment) -> bool:
    if before.kind is after.kind is Kind.POLY and before.a == before.b:
        return after.a == after.b == before.a
    return replace(before, start=after.start) == after


def _slice(
    schedulers: Sequence[Clocked], begin: int, end: int | None, value: float
) -> list[list[Segment]]:
    """The factors of the value from ``begin``, where it is ``value``, to ``end``."""
    moving = [each for each in schedulers if each.rules(begin) and _moves(each, begin, end)]
    multiply = all(each.law.multiplies() for each in moving)
    if not moving or (value == 0.0 and multiply):
        return [[Segment.constant(value, begin)]]
    if len(moving) == 1 or multiply:
        units = [value] + [1.0] * (len(moving) - 1)
        return [each.curve(begin, unit) for each, unit in zip(moving, units, strict=True)]
    if end is None:
        names = " and ".join(each.name for each in moving)
        raise ValueError(
            f"{names} move one value without end, for which there is no formula: pass max_epochs="
        )
    at_most("steps on which schedulers overlap", end - begin, MAX_VALUES)
    values = [value]
    for step in range(begin + 1, end):
        for each in schedulers:
            if each.ticks_at(step):
                value = each.law.apply(each.count(step), value)
        values.append(_unless_rounded_below_zero(value))
    return [[Segment(Kind.TABLE, start=begin, origin=begin, values=tuple(values))]]


def _moves(each: Clocked, begin: int, end: int | None) -> bool:
    after = each.next_move(begin)
    return after is not None and (end is None or after < end)
