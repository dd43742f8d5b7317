"""Composer's times, "10ep", "500ba" or "0.1dur", in batches."""

import re
from typing import Any

from ..schedules.checks import shown, whole

TIME = re.compile(r"(.+)(iter|ep|ba|sp|tok|dur|sec)", re.IGNORECASE)


class Durations:
    """What the times of one training are in batches.

    Args:
        max_duration: How long it is, in epochs or batches.
        steps_per_epoch: Batches of an epoch, if that is known.
        ratio: The Trainer's scale_schedule_ratio.

    Example:
        >>> times = Durations("90ep", steps_per_epoch=100, ratio=0.5)
        >>> times.end, times.batches("t_warmup", "0.1dur"), times.batches("t_max", "30ep")
        (4500, 450, 1500)
        >>> times.batches("t_warmup", "5ep", scaled=False)
        500
    """

    def __init__(self, max_duration: Any, steps_per_epoch: int | None, ratio: float) -> None:
        self._ratio = ratio
        self._per_epoch = steps_per_epoch
        if steps_per_epoch is not None:
            self._per_epoch = whole("steps_per_epoch", steps_per_epoch, 1)
        value, unit = _parsed("max_duration", max_duration)
        if unit == "dur":
            raise ValueError(
                f"max_duration must be in batches or epochs, got {shown(max_duration)}: write "
                "'4800ba' or '90ep'"
            )
        self._duration, self._unit = int(value * ratio), unit  # as the Trainer rounds it
        self.end = whole("max_duration", self._in_batches(self._duration, unit), 1)
        """Batches of the training."""

    def batches(self, name: str, time: Any, *, minimum: int = 0, scaled: bool = True) -> int:
        """Return a time in batches, times the ratio if that is to scale it.

        Raises:
            TypeError: An epoch's batches are needed and missing.
            ValueError: It is no time, in another unit, or below the minimum.
        """
        value, unit = _parsed(name, time)
        if unit == "dur":  # in Composer's order, which decides on the last batch
            part = value * self._in_batches(1, self._unit) * self._duration
            return whole(name, int(part), minimum)
        found = self._in_batches(int(value), unit)
        return whole(name, int(found * self._ratio) if scaled else found, minimum)

    def _in_batches(self, value: int, unit: str) -> int:
        if unit == "ba":
            return value
        if self._per_epoch is None:
            raise TypeError("a time is in epochs: pass steps_per_epoch=, the batches of one")
        return value * self._per_epoch


def _parsed(name: str, time: Any) -> tuple[float, str]:
    """The number and the unit of a time of Composer's, or of one that is written so."""
    text = time if isinstance(time, str) else f"{getattr(time, 'value', time)}"
    if not isinstance(time, str) and hasattr(time, "unit"):
        text += str(getattr(time.unit, "value", time.unit))
    match = TIME.fullmatch(text.strip())
    try:
        value = float(match[1]) if match else None
    except ValueError:
        value = None
    if match is None or value is None:
        raise ValueError(
            f"{name} must be a time such as '10ep', '500ba' or '0.1dur', got {shown(time)}: write "
            "it so"
        )
    unit = match[2].lower()
    if unit not in ("ba", "ep", "dur"):
        raise ValueError(
            f"{name}={shown(time)} is in a unit of which a step may have any number: write it in "
            "batches ('500ba'), epochs ('10ep') or parts of the training ('0.1dur')"
        )
    if value < 0.0 or (unit != "dur" and not value.is_integer()):
        raise ValueError(
            f"{name}={shown(time)} must be a whole number of at least 0, or a part ('0.1dur'): "
            "write it so"
        )
    return value, unit
