"""One learning rate in every form that contenders need: warm-up to the base rate, then cosine."""

import math

import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from fused_warmup.schedules import Schedule, cosine, linear_warmup

WARMUP = 500
TOTAL = 1_000_000  # more than any measurement takes: no scheduler gets to its end
START = 0.1
SCHEDULERS = ("LambdaLR", "SequentialLR")


def schedule() -> Schedule:
    """Return it as our optimizer takes it."""
    return linear_warmup(WARMUP, start=START).then(cosine(TOTAL - WARMUP))


def factor(t: int) -> float:
    """Return it as a user of LambdaLR writes it."""
    if t < WARMUP:
        return START + (1 - START) * t / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (t - WARMUP) / (TOTAL - WARMUP)))


def scheduler(name: str, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Return torch's scheduler of that name for an optimizer."""
    if name == "LambdaLR":
        return LambdaLR(optimizer, factor)
    warmup = LinearLR(optimizer, START, total_iters=WARMUP)
    decay = CosineAnnealingLR(optimizer, TOTAL - WARMUP)
    return SequentialLR(optimizer, [warmup, decay], [WARMUP])
