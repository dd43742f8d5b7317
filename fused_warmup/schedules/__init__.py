"""Schedules: learning rate factors as data, evaluated in closed form at any step.

A schedule gives a factor for every update ``t = 0, 1, 2, ...`` that the optimizer has applied;
the learning rate is ``group["lr"]`` times this factor. Lengths are in updates, or in epochs with
``epochs=`` and ``steps_per_epoch=`` (updates per epoch, so with gradient accumulation the batches
of an epoch over those of an update).

Example:
    >>> from fused_warmup.schedules import cosine, linear_warmup
    >>> schedule = linear_warmup(4, start=0.5).then(cosine(8))
    >>> schedule
    linear_warmup(4, start=0.5).then(cosine(8))
    >>> [round(factor, 3) for factor in schedule(range(0, 13, 2))]
    [0.5, 0.75, 1.0, 0.854, 0.5, 0.146, 0.0]
"""

from .averages import ema_power, ema_ramp, ema_threshold
from .cycles import cosine_restarts, cyclic
from .decay import constant, cosine, exponential, inverse_sqrt, linear, polynomial
from .joins import join_schedules
from .momentum import cyclic_momentum, one_cycle_momentum
from .policies import one_cycle, warmup_stable_decay
from .schedule import Schedule
from .segment import Kind, PastEnd, Segment
from .stairs import multi_step, step
from .tables import from_callable, table
from .warmup import constant_warmup, cosine_warmup, exponential_warmup, linear_warmup

__all__ = [
    "Kind",
    "PastEnd",
    "Schedule",
    "Segment",
    "constant",
    "constant_warmup",
    "cosine",
    "cosine_restarts",
    "cosine_warmup",
    "cyclic",
    "cyclic_momentum",
    "ema_power",
    "ema_ramp",
    "ema_threshold",
    "exponential",
    "exponential_warmup",
    "from_callable",
    "inverse_sqrt",
    "join_schedules",
    "linear",
    "linear_warmup",
    "multi_step",
    "one_cycle",
    "one_cycle_momentum",
    "polynomial",
    "step",
    "table",
    "warmup_stable_decay",
]
