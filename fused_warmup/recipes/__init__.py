"""Recipes: the settings of a paper from the few numbers that differ between users."""

from .elastic import change_batch
from .minibatch import LargeMinibatch, large_minibatch
from .weight_decay import split_weight_decay

__all__ = ["LargeMinibatch", "change_batch", "large_minibatch", "split_weight_decay"]
