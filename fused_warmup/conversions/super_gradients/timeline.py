"""Which rate of SuperGradients is in force at which optimizer step.

SuperGradients' callbacks assign a learning rate, and it stays until the next assignment:

- the epoch warm-up assigns when an epoch starts, the batch warm-up when a batch starts;
- the optimizer steps after the last batch of each ``batch_accumulate``, counted through all epochs;
- Poly, Cosine, Exponential and Function assign after that step, from its own position, so that
  the rate they work out is used one step later: a lag of one step;
- Step assigns when an epoch ends, so that an update "at epoch 30" is used from epoch 31 on.

Here each assignment is a segment that rules from the first optimizer step it reaches. Values are
factors on ``initial_lr``. Source: SuperGradients 3.7.1, training/utils/callbacks/callbacks.py
(the callbacks) and training/sg_trainer/sg_trainer.py (when each of them runs).
"""

import math
from bisect import bisect_right
from dataclasses import replace

from ...schedules.schedule import Schedule
from ...schedules.segment import Kind, Segment
from .curves import scheduler_curve
from .options import COSINE, EPOCH_WARMUP, STEP, Options

MAX_STAIRS = 10_000
"""Most epochs of a warm-up that no formula states."""


def timeline(options: Options, initial_lr: float, start: float) -> Schedule:
    """Return the factors on ``initial_lr`` at every optimizer step.

    Args:
        options: The training parameters.
        initial_lr: The group's base rate, above 0; only Function looks at it.
        start: Factor on ``initial_lr`` at which the warm-up starts.
    """
    curve = scheduler_curve(options, initial_lr)
    assigned = [Segment.constant(1.0)]
    free: list[Segment] = []
    warmup = warmup_of(options, start)
    if options.faithful and options.lr_mode == STEP:
        # Assigned when an epoch ends, it comes after every warm-up that reaches the same step.
        warmup = [(segment, segment.start) for segment, _ in warmup]
    for segment, stop in warmup:
        assigned.append(segment)
        if curve and curve[0].start < stop and all(other.start != stop for other, _ in warmup):
            # The scheduler has been at work during the warm-up and shows as soon as that is over.
            ruling = bisect_right(curve, stop, key=lambda piece: piece.start) - 1
            free.append(replace(curve[ruling], start=stop))
    free += [
        piece
        for piece in curve
        if not any(segment.start <= piece.start < stop for segment, stop in warmup)
    ]
    return in_order([*assigned, *free], options.total_steps)


def in_order(assigned: list[Segment], steps: int) -> Schedule:
    """Put assignments in order; of two that start together the later one in the list rules.

    The last of ``steps`` rates stays.
    """
    by_start = {segment.start: segment for segment in sorted(assigned, key=lambda s: s.start)}
    segments: list[Segment] = []
    for start, segment in by_start.items():
        value = _constant(segment)
        unchanged = value is not None and segments and value == _constant(segments[-1])
        if start < steps and not unchanged:
            segments.append(segment)
    if _constant(segments[-1]) is None:
        segments.append(Segment.constant(segments[-1].value_at(steps - 1), steps))
    return Schedule(tuple(segments), steps)


def _constant(segment: Segment) -> float | None:
    """The segment's value if it has only one."""
    return segment.a if segment.kind is Kind.POLY and segment.a == segment.b else None


def warmup_of(options: Options, start: float) -> list[tuple[Segment, int]]:
    """The warm-up's assignments, each with the first step at which a scheduler may rule again."""
    if not options.warmup_length:
        return []
    of_mode = _epoch_warmup if options.warmup_mode == EPOCH_WARMUP else _batch_warmup
    return of_mode(options, start)


def _epoch_warmup(options: Options, start: float) -> list[tuple[Segment, int]]:
    epochs, accumulate = options.lr_warmup_epochs, options.batch_accumulate

    def level(epoch: int) -> float:
        return start + epoch * ((1.0 - start) / epochs)

    # A fractional length never reaches the top: its last whole epoch stays in force.
    top = math.floor(epochs) if options.faithful else math.ceil(epochs)
    peak = level(top) if top < epochs else 1.0
    last = Segment.constant(peak, options.step_at(top))
    interrupted = options.faithful and options.lr_mode == COSINE and options.lr_warmup_steps > 0
    stair, rest = divmod(options.steps_per_epoch, accumulate)
    if rest or interrupted:
        if top > MAX_STAIRS:
            raise ValueError(
                f"lr_warmup_epochs={epochs} would rise in as many constant pieces, of which "
                f"{MAX_STAIRS} are the most: shorten it, or choose a batch_accumulate that divides "
                "steps_per_epoch"
            )
        stairs = [Segment.constant(level(epoch), options.step_at(epoch)) for epoch in range(top)]
    else:
        stairs = _exact(Segment(stair=stair, length=epochs * stair, a=start, b=1.0)) * (top > 0)
    return [(segment, segment.start + options.lag) for segment in (*stairs, last)]


def _batch_warmup(options: Options, start: float) -> list[tuple[Segment, int]]:
    batches, accumulate = int(options.warmup_length), options.batch_accumulate
    # Assigned at the start of the batch that completes a step (faithful), or that begins it.
    ahead = accumulate - 1 if options.faithful else 0
    if batches == 1:
        line = [Segment.constant(start)]
    else:
        length = (batches - 1) / accumulate
        line = _exact(Segment(shift=ahead / accumulate, length=length, a=start, b=1.0))
    stop = -(-batches // accumulate)
    assigned = [(segment, stop) for segment in line]
    return assigned if options.faithful else [*assigned, (Segment.constant(1.0, stop), stop)]


def _exact(line: Segment) -> list[Segment]:
    """The line, without its first value where ``b + (a - b)`` has lost the digits of a small a."""
    if line.shift > 0.0 or math.isclose(line.value_at(0), line.a, rel_tol=1e-14):
        return [line]
    return [Segment.constant(line.a), replace(line, start=line.stair)]
