"""MMEngine's schedulers that go along cosines, and its one cycle."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from typing_extensions import override

from ....schedules.policies import curve_through
from ....schedules.segment import Kind, PastEnd, Segment
from .laws import Law


def _height(n: float, half: int) -> float:
    return (1.0 + math.cos(math.pi * n / half)) / 2.0


@dataclass(frozen=True)
class Cosine(Law):
    """CosineAnnealingLR: half a cosine of ``half`` ticks from ``base`` to ``low``, then back up."""

    half: int
    low: float
    base: float

    @override
    def apply(self, n: int, x: float) -> float:
        if n == 0:
            return x
        if (n - 1 - self.half) % (2 * self.half) == 0:
            return x + (self.base - self.low) * (1.0 - math.cos(math.pi / self.half)) / 2.0
        return self.low + (x - self.low) * (_height(n, self.half) / _height(n - 1, self.half))

    @override
    def next_move(self, n: int) -> int | None:
        return n + 1 if self._runs_at(n + 1) else None

    @override
    def cuts(self) -> Iterable[int]:
        return range(self.half + 1, self.length or 0, 2 * self.half)

    @override
    def multiplies(self) -> bool:
        return self.low == 0.0

    @override
    def curve(self, n: int, x: float) -> list[Segment]:
        height = (x - self.low) / _height(n, self.half)
        ahead = PastEnd.HOLD if n <= self.half else PastEnd.CONTINUE
        return [Segment(Kind.COS, ahead, length=self.half, a=self.low + height, b=self.low)]


@dataclass(frozen=True)
class Restarts(Law):
    """CosineRestartLR: half a cosine a period, from the base times the period's weight."""

    periods: tuple[int, ...]
    weights: tuple[float, ...]
    low: float
    base: float

    def _place(self, n: int) -> tuple[int, int] | None:
        """The period that a tick is in, and its first tick."""
        begin = 0
        for i, period in enumerate(self.periods):
            if n < begin + period:
                return i, begin
            begin += period
        return None

    @override
    def apply(self, n: int, x: float) -> float:
        if (place := self._place(n)) is None:
            return x
        i, begin = place
        if n == begin:
            return self.base * self.weights[i]
        share = _height(n - begin, self.periods[i]) / _height(n - begin - 1, self.periods[i])
        return self.low + (x - self.low) * share

    @override
    def next_move(self, n: int) -> int | None:
        return n + 1 if self._runs_at(n + 1) and self._place(n + 1) is not None else None

    @override
    def cuts(self) -> Iterable[int]:
        return [sum(self.periods[: i + 1]) for i in range(len(self.periods))]

    @override
    def multiplies(self) -> bool:
        return self.low == 0.0

    @override
    def curve(self, n: int, x: float) -> list[Segment]:
        place = self._place(n)
        if place is None:
            return [Segment.constant(x)]
        i, begin = place
        height = (x - self.low) / _height(n - begin, self.periods[i])
        wave = Segment(Kind.COS, length=self.periods[i], a=self.low + height, b=self.low)
        return [replace(wave, origin=begin)]


@dataclass(frozen=True)
class OneCycle(Law):
    """OneCycleLR: the curve of torch's, whatever else has moved the rate."""

    heights: tuple[float, ...]
    ends: tuple[float, ...]
    kind: Kind

    @override
    def apply(self, n: int, x: float) -> float:
        ruling = [each for each in self.curve(n, x) if each.start <= n][-1]
        return ruling.value_at(n)

    @override
    def next_move(self, n: int) -> int | None:
        return n + 1 if n < self.ends[-1] and self._runs_at(n + 1) else None

    @override
    def multiplies(self) -> bool:
        return False

    @override
    def curve(self, n: int, x: float) -> list[Segment]:
        return list(curve_through(self.heights, self.ends, self.kind))
