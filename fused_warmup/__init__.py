"""SGD whose fused kernel computes the learning rate itself, warm-up included, on the device."""

from . import schedules
from ._backend import Backend, backends
from ._optim.clipping import clip_grad_norm_
from ._optim.rate_log import LoggedStep, RateLog, Reading
from ._optim.scheduler import RateInForce
from ._optim.sgd import SGD
from .conversions import convert, from_timm, from_torch, get_schedule, momentum_from_torch
from .conversions.super_gradients import SuperGradientsRecipe, from_super_gradients
from .recipes import LargeMinibatch, large_minibatch, split_weight_decay
from .schedules import Schedule, constant_warmup, cosine_warmup, exponential_warmup, linear_warmup

__all__ = [
    "SGD",
    "Backend",
    "LargeMinibatch",
    "LoggedStep",
    "RateInForce",
    "RateLog",
    "Reading",
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

# A pickle names a class by its module: it shall be one that stays where it is.
SGD.__module__ = RateInForce.__module__ = __name__
