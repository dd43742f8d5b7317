"""SGD whose fused kernel computes the learning rate itself, warm-up included, on the device."""

from .backend import backends
from .optimizer import SGD
from .schedules import Schedule

__all__ = ["SGD", "Schedule", "backends"]
__version__ = "0.1.0"
