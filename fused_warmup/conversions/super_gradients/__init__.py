"""Conversion of SuperGradients' training parameters to base rates and schedules."""

from .recipe import SuperGradientsRecipe, from_super_gradients

__all__ = ["SuperGradientsRecipe", "from_super_gradients"]
