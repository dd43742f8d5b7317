"""Schedulers of other libraries that build on torch's, known by the names of their classes.

The libraries are neither imported nor needed. A class of another name, a copy in a project of one's
own say, is a stranger (`known.stranger`) and is run ahead as it is.
"""

import math
from typing import Any

GRADUAL_WARMUP = "warmup_scheduler.scheduler.GradualWarmupScheduler"
"""ildoonet/pytorch-gradual-warmup-lr: warmup-scheduler 0.3, and 7021d63, which differs."""
WARMUP_RESTARTS = "cosine_annealing_warmup.scheduler.CosineAnnealingWarmupRestarts"
"""katsura-jp/pytorch-cosine-annealing-with-warmup, as of 12d03c0."""
WARMUP_COSINE = "pl_bolts.optimizers.lr_scheduler.LinearWarmupCosineAnnealingLR"
"""Lightning Bolts, as of 0.7.0."""

RATES = {WARMUP_RESTARTS: ("min_lr", "max_lr", "base_max_lr"), WARMUP_COSINE: ("warmup_start_lr",)}
"""Attributes that are learning rates, beside those that torch's own classes have."""


def is_known(cls: type) -> bool:
    """Tell whether a class is one of these, rather than made from one."""
    return f"{cls.__module__}.{cls.__qualname__}" in (
        GRADUAL_WARMUP,
        WARMUP_RESTARTS,
        WARMUP_COSINE,
    )


def kind_of(leaf: Any) -> Any:
    """Return what the rates of a scheduler are worked out by: a name from above, or a function."""
    for cls in type(leaf).__mro__:
        if is_known(cls):
            return f"{cls.__module__}.{cls.__qualname__}"
    return getattr(type(leaf), "get_lr", None)


def after(scheduler: Any) -> Any:
    """Return what a GradualWarmupScheduler is followed by; None for any other."""
    return scheduler.after_scheduler if kind_of(scheduler) == GRADUAL_WARMUP else None


def successor(scheduler: Any) -> Any:
    """Return what rules in the place of a GradualWarmupScheduler that is over; None before."""
    return after(scheduler) if getattr(scheduler, "finished", False) else None


def ramp_steps(scheduler: Any) -> int:
    """Return after how many steps a GradualWarmupScheduler hands over.

    Whether its ``last_epoch`` goes on counting then depends on the release.
    """
    return max(math.floor(float(scheduler.total_epoch)) + 1, 0)


def start_over(leaf: Any) -> None:
    """Bring a copy to the state in which its constructor left the scheduler."""
    kind = kind_of(leaf)
    leaf.last_epoch = -1
    if kind == GRADUAL_WARMUP:
        leaf.finished = False
    if kind == WARMUP_RESTARTS:
        leaf.step_in_cycle, leaf.cycle, leaf.cur_cycle_steps = -1, 0, leaf.first_cycle_steps
    leaf._initial_step()
    if kind == WARMUP_RESTARTS:
        leaf.init_lr()  # which its constructor calls last: the first rate is the lowest


def move_in_cycle(leaf: Any, steps: int) -> None:
    """Advance what CosineAnnealingWarmupRestarts counts beside ``last_epoch``."""
    cycles, leaf.step_in_cycle = divmod(leaf.step_in_cycle + steps, leaf.cur_cycle_steps)
    leaf.cycle += cycles
    leaf.max_lr = leaf.base_max_lr * leaf.gamma**leaf.cycle
