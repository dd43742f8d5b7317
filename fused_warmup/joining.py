"""An older name of `fused_warmup.distributed`."""

from .distributed import Joined

__all__ = ["Joined"]
