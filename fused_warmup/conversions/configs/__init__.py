"""Schedules from the configs of other frameworks: their files, or the mappings read from them."""

from .converted import ConvertedConfig
from .deepspeed import from_deepspeed
from .detectron2 import from_detectron2
from .mmengine import from_mmengine
from .torchvision import from_torchvision
from .ultralytics import UltralyticsConfig, from_ultralytics

__all__ = [
    "ConvertedConfig",
    "UltralyticsConfig",
    "from_deepspeed",
    "from_detectron2",
    "from_mmengine",
    "from_torchvision",
    "from_ultralytics",
]
