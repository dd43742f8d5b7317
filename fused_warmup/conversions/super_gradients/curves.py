"""The schedulers of SuperGradients as segments, factors on ``initial_lr``."""

import math
from bisect import bisect_right
from dataclasses import replace
from typing import Any

from ...schedules.checks import MAX_VALUES, finite
from ...schedules.segment import Kind, PastEnd, Segment
from ..ahead.copies import function_of
from .options import COSINE, EXPONENTIAL, FUNCTION, POLY, STEP, Options

POLY_POWER = 0.9


def scheduler_curve(options: Options, initial_lr: float) -> list[Segment]:
    """The scheduler's assignments from the first to the last, which stays in force."""
    if options.lr_mode is None:
        return []
    if options.lr_mode == STEP:
        return _stairs(options)
    start, stop = _scheduled(options)
    if start >= stop:
        return []
    if options.lr_mode == FUNCTION:
        return [_table(options, initial_lr, start, stop)]
    segment, begin = _formula(options)
    last = min(stop, options.total_steps) - 1 - segment.origin + segment.shift
    if options.lr_mode == POLY and last > segment.length:
        raise ValueError(
            f"lr_cooldown_epochs={options.lr_cooldown_epochs} begins within an epoch, where "
            f"{POLY} goes on past its end and SuperGradients' rates turn complex: make it a whole "
            "number"
        )
    pieces = [Segment.constant(1.0, start)] if start < begin else []
    if begin < stop:
        pieces.append(replace(segment, start=max(start, begin)))
    return [*pieces, Segment.constant(pieces[-1].value_at(stop - 1), stop)]


def _stairs(options: Options) -> list[Segment]:
    """A level for each epoch that has another number of updates behind it than the one before."""
    first, updates = math.ceil(options.lr_warmup_epochs), sorted(options.lr_updates)
    turns = {first, *(math.ceil(u) for u in updates if first < u <= options.max_epochs - 1)}
    return [
        Segment.constant(
            options.lr_decay_factor ** bisect_right(updates, epoch),
            options.step_at(epoch + options.lag),
        )
        for epoch in sorted(turns)
        if epoch < options.max_epochs
    ]


def _scheduled(options: Options) -> tuple[int, int]:
    """The steps at which the scheduler's formula is in force, from the first to before the last."""
    per_epoch, accumulate = options.steps_per_epoch, options.batch_accumulate
    on = math.ceil(options.lr_warmup_epochs) * per_epoch
    off = math.ceil(options.max_epochs - options.lr_cooldown_epochs) * per_epoch
    if options.lr_mode == COSINE and options.lr_warmup_steps > 0:
        # With lr_warmup_steps the cosine heeds neither the warm-up's epochs nor the cooldown.
        whole_training = options.max_epochs * per_epoch
        on = options.lr_warmup_steps if options.faithful else max(on, options.lr_warmup_steps)
        off = whole_training if options.faithful else off
    start, stop = on // accumulate, min(off // accumulate, options.total_steps)
    return (start + options.lag, stop + options.lag) if start < stop else (0, 0)


def _formula(options: Options) -> tuple[Segment, int]:
    """The scheduler's formula and the first step at which its clock is not negative."""
    per_epoch, epochs = options.steps_per_epoch, options.scheduled_epochs
    delay = options.lr_warmup_epochs * per_epoch
    if options.lr_mode == COSINE:
        delay += options.lr_warmup_steps
    # The clock counts batches: step * accumulate - lag - delay. A segment counts in steps.
    behind, rest = divmod(options.lag + delay, options.batch_accumulate)
    origin, shift = int(behind), -float(rest) / options.batch_accumulate
    begin = origin + (shift < 0.0)

    def segment(kind: Kind, batches: float, **shape: Any) -> Segment:
        length = batches / options.batch_accumulate
        return Segment(kind, origin=origin, shift=shift, length=length, **shape)

    if options.lr_mode == POLY:
        return segment(Kind.POLY, per_epoch * epochs, p=POLY_POWER), begin
    if options.lr_mode == EXPONENTIAL:
        if options.lr_decay_factor == 0.0:
            return Segment.constant(0.0), origin + 1
        p = math.log(options.lr_decay_factor)
        return segment(Kind.EXP, per_epoch, past_end=PastEnd.CONTINUE, p=p), begin
    batches = per_epoch * epochs - options.lr_warmup_steps + 1
    if batches == 0:
        raise ValueError(
            f"lr_warmup_steps={options.lr_warmup_steps} leaves the cosine a length of zero (the "
            f"{epochs} scheduled epochs have {per_epoch * epochs} batches) and SuperGradients "
            "divides by it: lower lr_warmup_steps or raise max_epochs"
        )
    # A cosine is even, so that SuperGradients' negative lengths mean what positive ones do.
    # It goes on past its end where it ignores the cooldown, or where that begins within an epoch.
    ends = options.lr_warmup_steps == 0 and isinstance(epochs, int)
    past_end = PastEnd.HOLD if ends else PastEnd.CONTINUE
    final = options.cosine_final_lr_ratio
    return segment(Kind.COS, abs(batches), past_end=past_end, b=final), begin


def _table(options: Options, initial_lr: float, start: int, stop: int) -> Segment:
    assert options.lr_schedule_function is not None
    if stop - start > MAX_VALUES:
        raise ValueError(
            f"lr_schedule_function would be asked for {stop - start} steps, at most {MAX_VALUES} "
            "can be: lower max_epochs, or use another lr_mode"
        )
    per_epoch = options.steps_per_epoch
    first_batch = math.ceil(options.lr_warmup_epochs) * per_epoch
    values = []
    # A copy, for the training may go by what the function remembers of its calls.
    with function_of(options.lr_schedule_function, "lr_schedule_function") as function:
        for step in range(start, stop):
            batch = max(step * options.batch_accumulate - options.lag, first_batch)
            epoch, iteration = divmod(batch, per_epoch)
            rate = function(
                initial_lr=initial_lr,
                epoch=epoch - options.lr_warmup_epochs,
                iter=iteration,
                max_epoch=options.scheduled_epochs,
                iters_per_epoch=per_epoch,
            )
            values.append(finite(f"lr_schedule_function at step {step}", float(rate)) / initial_lr)
    return Segment(Kind.TABLE, start=start, origin=start, values=tuple(values))
