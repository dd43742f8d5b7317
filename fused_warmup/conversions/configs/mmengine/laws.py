"""What each of MMEngine's parameter schedulers does to a value, and in closed form from then on.

A scheduler counts ``n`` from its ``begin``. Each of its ticks makes the next value of the one in
force, whoever has set it; so a law starts from the value that it finds.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from typing_extensions import override

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
class Quadratic(Law):
    """MMDetection's QuadraticWarmupLR: odd parts of the base, whose sums are squares, added up."""

    base: float

    def _sum(self, n: int) -> float:
        return self.base * ((n + 1) / (self._total + 1)) ** 2

    @override
    def apply(self, n: int, x: float) -> float:
        part = self.base * (2 * n + 1) / (self._total + 1) ** 2
        return x + part if n else part

    @override
    def next_move(self, n: int) -> int | None:
        return n + 1 if n < self._total else None

    @override
    def multiplies(self) -> bool:
        return False

    @override
    def curve(self, n: int, x: float) -> list[Segment]:
        low = x - self._sum(n)  # 0 but for rounding, where nobody else has moved it
        low = 0.0 if abs(low) <= 1e-12 * self.base else low
        return [Segment(shift=1.0, length=self._total + 1, a=low, b=low + self.base, k=2.0)]


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
