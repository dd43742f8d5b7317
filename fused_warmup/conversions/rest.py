"""What is left of a run under a torch scheduler, by the state that it is in."""

import math
from dataclasses import replace
from typing import Any

from ..schedules.schedule import Schedule
from ..schedules.segment import Segment
from ..schedules.tables import table
from .ahead.known import stranger
from .ahead.own import Run, run_ahead
from .ahead.sandbox import Sandbox
from .torch.momentum import cyclers, highest_momentum, momentum_from_torch, momentum_of
from .torch.schedulers import forward, from_torch, trace


class RestOfRun:
    """The schedules of a run that is ``done`` steps in.

    Where the whole state is that of the scheduler's own course, they are the schedules of that
    course, its past included. Otherwise they hold from here on, whatever has been before.

    Args:
        scheduler: The scheduler, which is left alone.
        done: Its steps so far.
        steps: Length of the whole training in its steps, None for what has no end.
    """

    def __init__(self, scheduler: Any, done: int, steps: int | None) -> None:
        self._scheduler = scheduler
        self._done = done
        self._steps = steps
        self._left = None if steps is None else max(steps - done, 1)
        own = stranger(scheduler) is not None
        self._run: Run | None = run_ahead(scheduler, self._left) if own else None

    def schedule(self, group: int, base: float) -> Schedule:
        """Return a group's factors on the rate ``base``."""
        if self._run is not None:
            rates = self._run.rates[group]
            return self._from_here(table(rates).scaled(1.0 / base), rates[0] / base)
        live = Sandbox(self._scheduler, group, live=True)
        if _alike(self._built(group), live.state()):
            return from_torch(self._scheduler, steps=self._steps, group=group, lr=base)
        rate = live.lr * live.unit / base
        segments = trace(live, self._left, start=self._done)
        moved = tuple(replace(s, start=s.start - self._done) for s in segments)
        return self._from_here(Schedule(moved).scaled(live.unit / base), rate, placed=True)

    def momentum(self, group: int) -> tuple[float, Schedule | None] | None:
        """Return the base of a group's momentum and the factors on it; None if it stays."""
        if not cyclers(self._scheduler):
            return None
        if self._run is not None:
            momenta = self._run.momenta[group]
            return self._relative(momenta, max(momenta))
        base = highest_momentum(self._scheduler, group)
        if base <= 0.0:
            return base, None
        live = Sandbox(self._scheduler, group, live=True)
        if _alike(self._built(group)[1:], live.state()[1:]):
            return base, momentum_from_torch(self._scheduler, steps=self._steps, group=group)
        return self._relative(momentum_of(live, self._left), base)

    def _built(self, group: int) -> list[float]:
        """The state that the scheduler's own course has by now."""
        box = Sandbox(self._scheduler, group, live=False)
        forward(box, self._done)
        return box.state()

    def _relative(self, momenta: list[float], base: float) -> tuple[float, Schedule | None]:
        if base <= 0.0:
            return base, None
        return base, self._from_here(table(momenta).scaled(1.0 / base), momenta[0] / base)

    def _from_here(self, rest: Schedule, now: float, placed: bool = False) -> Schedule:
        """The rest after the steps that are done, in which the value is that of now."""
        if not self._done:
            return replace(rest, steps=self._steps)
        moved = tuple(
            replace(s, start=s.start + self._done, origin=s.origin + self._done * (not placed))
            for s in rest.segments
        )
        return Schedule((Segment.constant(now), *moved), self._steps)


def _alike(built: list[float], live: list[float]) -> bool:
    """Compare two states but for the rounding of a recursion in the rates, which come first."""
    return len(built) == len(live) and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-16) for a, b in zip(built, live, strict=True)
    )
