"""A clipping that the next step does, and whether its norm is that of unscaled gradients."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Clip:
    """What the next step divides gradients by.

    Args:
        divisor: The norm over its bound, times the scale where that was known.
        knows_scale: Whether the norm was taken with the scale known that the step will be given.
    """

    divisor: Tensor
    knows_scale: bool

    def times(self, grad_scale: Any) -> Any:
        """Return what the step divides by, under a scale that it was given.

        Raises:
            ValueError: The norm is that of scaled gradients.
        """
        if grad_scale is None:
            return self.divisor
        if not self.knows_scale:
            raise ValueError(
                "clip_grad_norm_ computed the norm of gradients that are still multiplied by "
                "GradScaler's scale, so nothing has been updated: pass it scaler=, or call "
                "scaler.unscale_(optimizer) before it"
            )
        return self.divisor * grad_scale
