"""What each of MMEngine's parameter schedulers does to a value, and in closed form from then on.

A scheduler counts ``n`` from its ``begin``. Each of its ticks makes the next value of the one in
force, whoever has set it; so a law starts from the value that it finds.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace

from typing_extensions import override

from ....schedules.policies import curve_through
from ....schedules.segment import Kind, PastEnd, Segment


@dataclass(frozen=True)
class Law(ABC):
    """One scheduler.

    Args:
        length: Ticks from its begin to its end; None: without end.
    """

    length: int | None

    @abstractmethod
    def apply(self, n: int, x: float) -> float:
        """Return the value after tick ``n``, of the value before it: MMEngine's own recursion."""

    @abstractmethod
    def next_move(self, n: int) -> int | None:
        """Return the next tick after ``n`` that changes the value; None: none."""

    def cuts(self) -> Iterable[int]:
        """Return the ticks at which no closed form goes on."""
        return ()

    def multiplies(self) -> bool:
        """Tell whether each tick multiplies the value by a number that does not depend on it."""
        return True

    @abstractmethod
    def curve(self, n: int, x: float) -> list[Segment]:
        """Return the values after tick ``n``, where it is ``x``, on a clock of ticks from begin."""

    @property
    def _total(self) -> int:
        """The last tick, of a law that has an end."""
        assert self.length is not None
        return self.length - 1

    def _runs_at(self, n: int) -> bool:
        return self.length is None or n < self.length


@dataclass(frozen=True)
class Drops(Law):
    """MultiStepLR: ``gamma`` at each milestone; ConstantLR: its factor, and back at the end."""

    factors: dict[int, float]

    @override
    def apply(self, n: int, x: float) -> float:
        return x * self.factors.get(n, 1.0)

    @override
    def next_move(self, n: int) -> int | None:
        return min(
            (each for each in self.factors if each > n and self._runs_at(each)), default=None
        )

    @override
    def cuts(self) -> Iterable[int]:
        return self.factors

    @override
    def curve(self, n: int, x: float) -> list[Segment]:
        return [Segment.constant(x)]


@dataclass(frozen=True)
class Stairs(Law):
    """StepLR: ``gamma`` at every ``size``-th tick; ExponentialLR at every one."""

    size: int
    gamma: float

    @override
    def apply(self, n: int, x: float) -> float:
        return x * self.gamma if n and n % self.size == 0 else x

    @override
    def next_move(self, n: int) -> int | None:
        after = (n // self.size + 1) * self.size
        return after if self._runs_at(after) and self.gamma != 1.0 else None

    @override
    def curve(self, n: int, x: float) -> list[Segment]:
        fall = Segment(
            Kind.EXP,
            PastEnd.CONTINUE,
            origin=n // self.size * self.size,
            stair=self.size,
            length=self.size,
            a=x,
            p=math.log(self.gamma),
        )
        return [fall]


@dataclass(frozen=True)
class Linear(Law):
    """LinearLR: from its first factor to its last, which its last tick reaches."""

    start: float
    end: float

    @override
    def apply(self, n: int, x: float) -> float:
        if n == 0:
            return x * self.start
        rise = self.end - self.start
        return x * (1.0 + rise / (self._total * self.start + (n - 1) * rise))

    @override
    def next_move(self, n: int) -> int | None:
        return n + 1 if n < self._total and self.start != self.end else None

    @override
    def curve(self, n: int, x: float) -> list[Segment]:
        unit = x / (self.start + (self.end - self.start) * n / self._total)
        return [Segment(length=self._total, a=self.start * unit, b=self.end * unit)]


@dataclass(frozen=True)
class Poly(Law):
    """PolyLR: a power of the ticks left, above ``low``."""

    low: float
    power: float

    @override
    def apply(self, n: int, x: float) -> float:
        if n == 0:
            return x
        share: float = (1.0 - 1.0 / (self._total - n + 1)) ** self.power
        return (x - self.low) * share + self.low

    @override
    def next_move(self, n: int) -> int | None:
        return n + 1 if n < self._total else None

    @override
    def multiplies(self) -> bool:
        return self.low == 0.0

    @override
    def curve(self, n: int, x: float) -> list[Segment]:
        height = (x - self.low) / (1.0 - n / self._total) ** self.power
        return [Segment(length=self._total, a=self.low + height, b=self.low, p=self.power)]


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
