"""Schedules from the schedulers of other libraries, and running optimizers from torch's."""

from .composer import from_composer
from .hugging_face import get_schedule
from .ignite import from_ignite
from .live import convert
from .pytorch_warmup import from_pytorch_warmup
from .timm import from_timm
from .torch.momentum import momentum_from_torch
from .torch.schedulers import from_torch

__all__ = [
    "convert",
    "from_composer",
    "from_ignite",
    "from_pytorch_warmup",
    "from_timm",
    "from_torch",
    "get_schedule",
    "momentum_from_torch",
]
