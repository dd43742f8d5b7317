"""Recipes: the settings of a paper from the few numbers that differ between users."""

from .minibatch import LargeMinibatch, large_minibatch
from .weight_decay import split_weight_decay

__all__ = ["LargeMinibatch", "large_minibatch", "split_weight_decay"]
