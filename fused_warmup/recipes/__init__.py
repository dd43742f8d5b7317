"""Recipes: the settings of a paper from the few numbers that differ between users."""

from .base import LargeMinibatch
from .elastic import change_batch
from .layerwise import LarsMinibatch
from .minibatch import large_minibatch
from .weight_decay import split_weight_decay

__all__ = [
    "LargeMinibatch",
    "LarsMinibatch",
    "change_batch",
    "large_minibatch",
    "split_weight_decay",
]
