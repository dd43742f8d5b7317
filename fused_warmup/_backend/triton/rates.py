"""A group's rates at a step on the device: those of ``csrc/launch/plan.h`` in Triton."""

import triton
import triton.language as tl

from .schedule import load_double, load_int32, load_int64, places, track_factor

LR, LR_PTR, LR_DTYPE, MOMENTUM, SCHEDULE, MOMENTUM_SCHEDULE = map(
    tl.constexpr,
    places("Group", "lr", "lr_ptr", "lr_dtype", "momentum", "schedule", "momentum_schedule"),
)
EMA_DECAY, EMA_EVERY, EMA_START = map(
    tl.constexpr, places("Group", "ema_decay", "ema_every", "ema_start")
)
SCHEDULE_SIZE = tl.constexpr(*places("Schedule", "size"))
FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = map(
    tl.constexpr, places("DType", "FLOAT32", "FLOAT64", "BFLOAT16", "FLOAT16")
)


@triton.jit
def base_lr(group):
    """Return a group's base rate, as float64: a number, or what a tensor holds now.

    Loads under masks rather than branches, which would take more registers.
    """
    at, dtype = load_int64(group + LR_PTR), load_int32(group + LR_DTYPE)
    there = at != 0
    double = tl.load(at.to(tl.pointer_type(tl.float64)), there & (dtype == FLOAT64), other=0.0)
    single = tl.load(at.to(tl.pointer_type(tl.float32)), there & (dtype == FLOAT32), other=0.0)
    bfloat = tl.load(at.to(tl.pointer_type(tl.bfloat16)), there & (dtype == BFLOAT16), other=0.0)
    half = tl.load(at.to(tl.pointer_type(tl.float16)), there & (dtype == FLOAT16), other=0.0)
    narrow = single + bfloat.to(tl.float32) + half.to(tl.float32)
    return load_double(group + LR) + double + narrow.to(tl.float64)


@triton.jit
def rates_at(group, schedules, t, TRACKS: tl.constexpr):
    """Return a group's learning rate and momentum at step ``t``, in float64.

    The third is the factor on the decay of its averages, if there are so many TRACKS.
    """
    lr = base_lr(group)
    momentum = load_double(group + MOMENTUM)
    ema_factor = tl.full((), 1.0, tl.float64)
    # A loop over the tracks: stating the schedule's code twice would take more registers. Their
    # indices lie side by side.
    track = tl.full((), 0, tl.int32)
    factor = tl.full((), 1.0, tl.float64)
    following = tl.full((), 0, tl.int64)
    while track < TRACKS:
        at = group + SCHEDULE + track * (MOMENTUM_SCHEDULE - SCHEDULE)
        index = load_int32(at)
        schedule = schedules + index.to(tl.int64) * SCHEDULE_SIZE
        more, following = track_factor(schedule, index >= 0, following, t)
        # 0 times one that overflowed would be NaN.
        factor = tl.where((factor == 0.0) | (more == 0.0), 0.0, factor * more)
        if following == 0:
            lr *= tl.where(track == 0, factor, 1.0)
            # Without momentum there may be no buffer, and 0 times an infinite factor is not 0.
            momentum *= tl.where((track == 1) & (momentum != 0.0), factor, 1.0)
            if TRACKS == 3:
                ema_factor *= tl.where(track == 2, factor, 1.0)
            factor = tl.full((), 1.0, tl.float64)
            track += 1
    return lr, momentum, ema_factor


@triton.jit
def ema_weight(group, factor, t):
    """Return the weight of a parameter in its average after step ``t``; 0: the average stays."""
    start = load_int64(group + EMA_START)
    every = load_int64(group + EMA_EVERY)
    past = t % every
    is_copy = (start >= 0) & (t - start < tl.where(past == 0, every, past))
    weight = tl.where(past == 0, 1.0 - load_double(group + EMA_DECAY) * factor, 0.0)
    return tl.where(is_copy, 1.0, weight)
