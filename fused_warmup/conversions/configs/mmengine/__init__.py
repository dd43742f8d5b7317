"""MMEngine's list of parameter schedulers, each with a clock and a range of its own."""

from .convert import from_mmengine

__all__ = ["from_mmengine"]
