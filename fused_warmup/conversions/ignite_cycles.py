"""The cycles of ignite's LinearCyclicalScheduler and CosineAnnealingScheduler."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..schedules.policies import curve_through
from ..schedules.schedule import Schedule
from ..schedules.segment import Kind, Segment
from .torch.cyclic import MAX_WAVE
from .torch.schedulers import HORIZON, MAX_SEGMENTS


@dataclass(frozen=True)
class Cycle:
    """One cycle: from ``start`` to ``end`` in ``size`` steps, and up again in ``ramp``.

    ``there_and_back``: it returns within ``size``; else ``kind`` says along what it goes.
    """

    kind: Kind
    there_and_back: bool
    start: float
    end: float
    size: int
    ramp: int
    gains: tuple[float, float, float]
    """What the next cycle's start, end and sizes are multiplied by."""

    @property
    def steps(self) -> int:
        """The steps of the cycle."""
        return self.size + self.ramp

    def segments(self) -> tuple[Segment, ...]:
        """What the rate does, step 0 being the first of the cycle."""
        if self.there_and_back:
            heights, ends = (self.start, self.end, self.start), (self.size / 2, float(self.size))
            return curve_through(heights, ends, Kind.POLY)
        fall = Segment(self.kind, length=self.size, a=self.start, b=self.end)
        if not self.ramp:
            return (fall,)
        top = self.start * self.gains[0]
        rise = Segment(start=self.size, origin=self.size, length=self.ramp, a=self.end, b=top)
        return fall, rise

    def following(self) -> "Cycle":
        """The next cycle."""
        of_start, of_end, of_size = self.gains
        size, ramp = int(self.size * of_size), int(self.ramp * of_size)
        start, end = self.start * of_start, self.end * of_end
        return replace(self, start=start, end=end, size=size, ramp=ramp)

    def forever(self) -> Segment | None:
        """All cycles from this one on as one segment; None where they are not all alike."""
        of_start, of_end, _ = self.gains
        then = self.following()
        alike = of_start == of_end > 0.0 and (then.size, then.ramp) == (self.size, self.ramp)
        if not alike or self.steps > MAX_WAVE:
            return None
        mine = self.segments()
        if of_start == 1.0 and len(mine) == 1:
            return replace(mine[0], period=self.size)
        values = tuple(Schedule(mine)(range(self.steps)))
        gain = math.log(of_start)
        return Segment(Kind.TABLE, period=self.steps, b=0.0, log_cycle_gain=gain, values=values)


def cycles(scheduler: Any, steps: int | None) -> Schedule | None:
    """Return the rates that a scheduler sets from its next call on; None if many cycles differ.

    Raises:
        ValueError: The cycles shrink to nothing within the steps.
    """
    cycle, done = _present(scheduler)
    segments: list[Segment] = []
    begin = -done
    while begin < (HORIZON if steps is None else steps):
        if cycle.size < 1:
            raise ValueError(
                f"the cycles of this {type(scheduler).__name__} shrink to nothing after {begin} "
                "calls, where it divides by 0: give it a cycle_mult of 1 or above, or fewer steps="
            )
        endless = cycle.forever() if begin >= 0 else None
        if endless is not None:
            segments.append(replace(endless, start=begin, origin=begin))
            break
        segments += moved(cycle.segments(), begin)
        begin += cycle.steps
        cycle = cycle.following()
        if len(segments) > MAX_SEGMENTS:
            return None
    return Schedule(tuple(segments), steps)


def _present(scheduler: Any) -> tuple[Cycle, int]:
    """The cycle that the next call is in, and how many steps of it are over."""
    e, size = scheduler.event_index, scheduler.cycle_size
    ramp = getattr(scheduler, "warmup_duration", 0)  # since ignite 0.5
    of_start = scheduler.start_value_mult
    is_cosine = type(scheduler).__name__ == "CosineAnnealingScheduler"
    cycle = Cycle(
        kind=Kind.COS if is_cosine else Kind.POLY,
        there_and_back=not (is_cosine or getattr(scheduler, "monotonic", False)),
        start=float(scheduler.start_value),
        end=float(scheduler.end_value),
        size=size,
        ramp=ramp,
        gains=(of_start, scheduler.end_value_mult, scheduler.cycle_mult),
    )
    if e > size and of_start:  # its start is the next cycle's already
        cycle = replace(cycle, start=cycle.start / of_start)
    return (cycle.following(), 0) if e and e == cycle.steps else (cycle, e)


def moved(segments: Sequence[Segment], by: int) -> Iterator[Segment]:
    """Yield segments that rule so many steps later, or those of them that are not over."""
    for i, segment in enumerate(segments):
        if i + 1 == len(segments) or segments[i + 1].start + by > 0:
            start = max(segment.start + by, 0)
            yield replace(segment, start=start, origin=segment.origin + by)
