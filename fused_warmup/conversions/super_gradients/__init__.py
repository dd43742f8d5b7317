"""Conversion of SuperGradients' training parameters to base rates, schedules and an optimizer."""

from .conversion import from_super_gradients
from .recipe import SuperGradientsRecipe

__all__ = ["SuperGradientsRecipe", "from_super_gradients"]
