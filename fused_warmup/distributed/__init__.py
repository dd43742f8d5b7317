"""Training on several processes: inputs of unequal length, updates inside the backward pass."""

from .joining import Joined
from .step_in_backward import StepInBackward

__all__ = ["Joined", "StepInBackward"]
