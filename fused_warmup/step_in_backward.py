"""An older name of `fused_warmup.distributed`."""

from .distributed import StepInBackward

__all__ = ["StepInBackward"]
