"""SGD whose fused kernel computes the learning rate itself, warm-up included, on the device."""

from . import schedules
from .backend import backends
from .clipping import clip_grad_norm_
from .conversions import convert, from_timm, from_torch, get_schedule, momentum_from_torch
from .optimizer import SGD
from .rate_log import RateLog
from .recipes import LargeMinibatch, large_minibatch, split_weight_decay
from .schedules import (
    Schedule,
    constant_warmup,
    cosine_warmup,
    exponential_warmup,
    linear_warmup,
)
from .super_gradients import SuperGradientsRecipe, from_super_gradients

__all__ = [
    "SGD",
    "LargeMinibatch",
    "RateLog",
    "Schedule",
    "SuperGradientsRecipe",
    "backends",
    "clip_grad_norm_",
    "constant_warmup",
    "convert",
    "cosine_warmup",
    "exponential_warmup",
    "from_super_gradients",
    "from_timm",
    "from_torch",
    "get_schedule",
    "large_minibatch",
    "linear_warmup",
    "momentum_from_torch",
    "schedules",
    "split_weight_decay",
]
__version__ = "0.1.0"
