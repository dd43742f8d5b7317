"""A group's options as the plain numbers that the Triton kernel takes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..._groups.options import check, is_number

# In the order of a group's row.
NUMBERS = ("weight_decay", "momentum", "dampening")
SWITCHES = ("nesterov", "maximize")


def number(option: Any) -> float:
    """Return an option as the plain number that it stands for: numpy's and tensors are common.

    Raises:
        TypeError, ValueError, RuntimeError, OverflowError: It stands for none.
    """
    if type(option) is float:
        return option
    if not is_number(option):
        raise TypeError(f"{option!r} is no number")
    return float(option.detach() if isinstance(option, Tensor) else option)


def is_on(option: Any) -> bool:
    """Return what an option that is on or off stands for; errors are those of `number`."""
    return option is not None and bool(option if type(option) is bool else number(option))


def in_range(group: Mapping[str, Any]) -> bool:
    """Tell whether a step may use a group's options."""
    try:
        check(group)
    except (TypeError, ValueError):
        return False  # Python's own path raises it again
    return True
