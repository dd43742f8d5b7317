"""What the classes of `libraries` do between two events, as one segment."""

import math
from dataclasses import replace
from typing import Any

from ...schedules.segment import Kind, Segment
from ..libraries import GRADUAL_WARMUP, WARMUP_COSINE, WARMUP_RESTARTS, kind_of
from .annealing import Law, cosine
from .cyclic import MAX_WAVE

MAX_CYCLES = 110
"""Most cycles, each longer than the last, that an endless series of them may take."""


def gradual_warmup(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    """Ildoonet's ramp: from the base to ``multiplier`` times it, or from 0 to the base."""
    e, total, top = leaf.last_epoch, leaf.total_epoch, leaf.base_lrs[0] * leaf.multiplier
    if e < 0:
        return None
    if e > total:
        return Segment.constant(top), None
    first = 0.0 if leaf.multiplier == 1.0 else leaf.base_lrs[0]
    return Segment(origin=-e, length=total, a=first, b=top), None


def warmup_cosine(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    """Bolts' ramp of ``warmup_epochs - 1`` increments, then torch's recursion along a cosine."""
    e, steps, base = leaf.last_epoch, leaf.warmup_epochs, leaf.base_lrs[0]
    if e >= steps:
        return cosine(e - steps, leaf.max_epochs - steps, leaf.eta_min, base, lr)
    left = steps - 1 - e
    if e < 0 or left == 0:
        return None
    first, rise = leaf.warmup_start_lr, (base - leaf.warmup_start_lr) / (steps - 1)
    off = lr - (first + e * rise)
    if abs(off) <= 1e-9 * max(abs(base), abs(first)):  # as built, but for rounding
        off = 0.0
    return Segment(origin=-e, length=steps - 1, a=first + off, b=base + off), left


def warmup_restarts(leaf: Any, lr: float, group: dict[str, Any]) -> Law | None:
    """Katsura's cycles: each rises in a line and falls along a cosine, to and from ``min_lr``."""
    e, warm, cycle = leaf.step_in_cycle, leaf.warmup_steps, leaf.cur_cycle_steps
    if e < 0 or cycle <= warm or any(int(n) != n for n in (e, warm, cycle)):
        return None
    low, top = leaf.base_lrs[0], leaf.max_lr
    fall = Segment(Kind.COS, origin=warm - e, length=cycle - warm, a=top, b=low)
    rise = Segment(origin=-e, length=max(warm, 1), a=low, b=top)
    if _repeats(leaf):
        gain = math.log(leaf.gamma) if leaf.gamma != 1.0 else 0.0
        if warm == 0:
            return replace(fall, period=cycle, log_cycle_gain=gain), None
        here = range(-e, cycle - e)
        values = tuple((rise if t < warm - e else fall).value_at(t) for t in here)
        wave = Segment(
            Kind.TABLE, origin=-e, period=cycle, b=low, log_cycle_gain=gain, values=values
        )
        return wave, None
    return (rise, warm - e - 1) if e < warm else (fall, cycle - e - 1)


def _repeats(leaf: Any) -> bool:
    """Whether one cycle states all: a gain per cycle is one of the amplitude, not of the top."""
    alike = leaf.gamma == 1.0 or (leaf.base_lrs[0] == 0.0 and leaf.gamma > 0.0)
    cycle = leaf.cur_cycle_steps
    stays = int((cycle - leaf.warmup_steps) * leaf.cycle_mult) + leaf.warmup_steps == cycle
    return bool(alike and stays and cycle <= MAX_WAVE)


def can_state(leaf: Any) -> bool:
    """Tell whether so many laws state what a scheduler does that no length is needed."""
    kind = kind_of(leaf)
    if kind == WARMUP_COSINE:
        half = leaf.max_epochs - leaf.warmup_epochs
        return bool(half > 0 and int(2 * half) == 2 * half)
    if kind != WARMUP_RESTARTS:
        return True
    if _repeats(leaf):
        return True
    fall = leaf.cur_cycle_steps - leaf.warmup_steps
    grows = leaf.cycle_mult > 1.0 and int(fall * leaf.cycle_mult) > fall
    return bool(grows and 62 * math.log(2) / math.log(leaf.cycle_mult) < MAX_CYCLES)


LAWS = {
    GRADUAL_WARMUP: gradual_warmup,
    WARMUP_RESTARTS: warmup_restarts,
    WARMUP_COSINE: warmup_cosine,
}
