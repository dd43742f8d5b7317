"""Warnings that point at the user's own line, however many frames of torch lie in between."""

import sys
import warnings
from pathlib import Path

import torch

_OURS = tuple(str(Path(module).parent) + "/" for module in (__file__, torch.__file__))


def advise(message: str) -> None:
    """Warn of something at the line that called into this package or into torch."""
    level = 1
    while True:
        try:
            frame = sys._getframe(level)
        except ValueError:
            break
        if not frame.f_code.co_filename.startswith(_OURS):
            break
        level += 1
    warnings.warn(message, stacklevel=level + 1)
