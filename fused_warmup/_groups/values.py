"""The values that options may have: numbers, flags, tensors of one element."""

import math
from typing import Any

import torch
from torch import Tensor

from .._tensors.memory import has_number


def check_tensor_lr(lr: Tensor) -> None:
    """Check what a tensor lr is, not its value, which may be on a device.

    Raises:
        TypeError: It is of another dtype or layout, or its memory was taken away.
        ValueError: It has more elements than one, or none.
    """
    if lr.numel() != 1:
        raise ValueError(
            f"Tensor lr must be 1-element, got shape {tuple(lr.shape)}: use one parameter "
            "group for each rate"
        )
    if not has_number(lr):
        raise TypeError(
            f"Tensor lr must hold a number, got one of layout {lr.layout} on {lr.device} "
            "without memory of its own: pass torch.tensor(number)"
        )
    if not lr.is_floating_point():
        raise TypeError(f"Tensor lr must be of a floating dtype, got {lr.dtype}: cast it")


def check_number(
    what: str, value: Any, remedy: str, least: float = 0.0, most: float = math.inf
) -> None:
    """Check an option that is a number: one of Python's or numpy's, or a tensor of one element.

    A bool is none: ``ema_decay=True`` is a flag in the wrong place.

    Args:
        what: What errors call it.
        value: It.
        remedy: What errors advise.
        least: The lowest that it may be.
        most: The highest.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range or not finite.
    """
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(
            f"Invalid {what}: a tensor of shape {tuple(value.shape)}, it must have one element: "
            f"use one parameter group for each value ({remedy})"
        )
    if isinstance(value, Tensor) and not has_number(value):
        raise TypeError(
            f"Invalid {what}: a tensor of layout {value.layout} on {value.device} without "
            f"memory of its own, it must be a number: pass a float ({remedy})"
        )
    if not is_number(value) or is_bool(value):
        raise TypeError(
            f"Invalid {what}: {value!r}, it must be a number: pass a float ({remedy}{_hint(value)})"
        )
    try:
        number = float(value.detach() if isinstance(value, Tensor) else value)
    except OverflowError:  # an int
        number = math.inf
    if not math.isfinite(number) or not least <= number <= most:
        bound = "finite" if least == -math.inf else "finite and not negative"
        bound += f", at most {most:g}" * (most < math.inf)
        raise ValueError(f"Invalid {what}: {value}, it must be {bound} ({remedy})")


def check_scalar(name: str, value: Any) -> None:
    """Check a scalar of AMP's that is not a tensor.

    Raises:
        TypeError: It is no number.
    """
    if not is_number(value):
        raise TypeError(
            f"{name}={value!r} is a {type(value).__name__}, it must be a number: leave it to "
            "GradScaler, or set it to a tensor of one element"
        )


def check_flag(name: str, value: Any) -> None:
    """Check an option that is on or off; None is off, and so are numbers that are 0.

    Raises:
        TypeError: It is text, "False" for one, or something else that merely has a truth value.
    """
    if not (value is None or isinstance(value, bool) or is_number(value)):
        raise TypeError(f"Invalid {name}: {value!r}, it must be a bool: pass True or False")


def is_number(value: Any) -> bool:
    """Tell whether an option is a real number of Python's, numpy's or torch's."""
    if isinstance(value, (int, float)):
        return True
    if isinstance(value, Tensor):
        return not value.is_complex()
    # numpy's scalars and its arrays of no dimensions. Text is an array, too, of kind "U".
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return getattr(value, "shape", None) == () and kind in ("b", "i", "u", "f")


def is_bool(value: Any) -> bool:
    """Tell whether a value is one of Python's, numpy's or torch's bools, which are flags."""
    dtype = getattr(value, "dtype", None)
    return isinstance(value, bool) or dtype is torch.bool or getattr(dtype, "kind", None) == "b"


def _hint(text: Any) -> str:
    """Say where a number that came as text may come from."""
    try:
        float(text if isinstance(text, str) else "")
    except ValueError:
        return ""
    return "; YAML takes 1e-3 for text and 1.0e-3 for a number"
