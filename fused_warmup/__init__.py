"""SGD whose fused kernel computes the learning rate itself, warm-up included, on the device."""

import torch

from . import schedules
from ._backend import Backend, backends
from ._optim.attached import Attached, attach
from ._optim.clipping import clip_grad_norm_
from ._optim.rate_log import LoggedStep, RateLog, Reading
from ._optim.scheduler import RateInForce
from .conversions import (
    convert,
    from_composer,
    from_ignite,
    from_pytorch_warmup,
    from_timm,
    from_torch,
    get_schedule,
    momentum_from_torch,
)
from .conversions.configs import (
    ConvertedConfig,
    UltralyticsConfig,
    from_deepspeed,
    from_detectron2,
    from_mmengine,
    from_torchvision,
    from_ultralytics,
)
from .conversions.super_gradients import SuperGradientsRecipe, from_super_gradients
from .lars import LARS
from .recipes import LargeMinibatch, LarsMinibatch, large_minibatch, split_weight_decay
from .schedules import (
    Schedule,
    constant,
    constant_warmup,
    cosine,
    cosine_restarts,
    cosine_warmup,
    cyclic,
    exponential,
    exponential_warmup,
    inverse_sqrt,
    join_schedules,
    linear,
    linear_warmup,
    multi_step,
    one_cycle,
    polynomial,
    step,
    warmup_stable_decay,
)
from .sgd import SGD

__all__ = [
    "LARS",
    "SGD",
    "Attached",
    "Backend",
    "ConvertedConfig",
    "LargeMinibatch",
    "LarsMinibatch",
    "LoggedStep",
    "RateInForce",
    "RateLog",
    "Reading",
    "Schedule",
    "SuperGradientsRecipe",
    "UltralyticsConfig",
    "attach",
    "backends",
    "clip_grad_norm_",
    "constant",
    "constant_warmup",
    "convert",
    "cosine",
    "cosine_restarts",
    "cosine_warmup",
    "cyclic",
    "exponential",
    "exponential_warmup",
    "from_composer",
    "from_deepspeed",
    "from_detectron2",
    "from_ignite",
    "from_mmengine",
    "from_pytorch_warmup",
    "from_super_gradients",
    "from_timm",
    "from_torch",
    "from_torchvision",
    "from_ultralytics",
    "get_schedule",
    "inverse_sqrt",
    "join_schedules",
    "large_minibatch",
    "linear",
    "linear_warmup",
    "momentum_from_torch",
    "multi_step",
    "one_cycle",
    "polynomial",
    "schedules",
    "split_weight_decay",
    "step",
    "warmup_stable_decay",
]
__version__ = "0.1.0"

# A Schedule in a file loads under torch.load(weights_only=True): it is data.
torch.serialization.add_safe_globals(
    [Schedule, schedules.Segment, schedules.Kind, schedules.PastEnd]
)
