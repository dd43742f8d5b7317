"""The options of averages: how parameters go into them, and when."""

from collections.abc import Mapping
from typing import Any

from .values import check_number

MAX_COUNT = 2**62
"""The greatest number of steps that an option may be."""


def check_averaging(group: Mapping[str, Any]) -> None:
    """Check the options of a group's averages.

    Raises:
        TypeError: One is no number, or no whole number.
        ValueError: One is out of range.
    """
    decay = group["ema_decay"]
    if decay is not None:
        check_number("ema_decay value", decay, "None keeps no averages", most=1.0)
    for name, least, remedy in (
        ("ema_every", 1, "1 updates averages at every step"),
        ("ema_start", 0, "None starts averages at once"),
    ):
        count = group[name]
        if count is None and name == "ema_start":
            continue
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError(f"Invalid {name}: {count!r}, it must be an int of steps ({remedy})")
        if not least <= count <= MAX_COUNT:
            raise ValueError(
                f"Invalid {name}: {count}, it must be at least {least} and at most 2**62 ({remedy})"
            )
