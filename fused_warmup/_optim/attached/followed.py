"""One group that follows a schedule: what it was given, and whether it is still as it was left."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..._groups.attached import BASE, COUNT
from ..._groups.options import plain_schedule
from ..._groups.values import is_bool, is_number
from ..._step.counters import home
from ...schedules.plain import PlainSchedule
from .takes import refuses_amp, remedy, takes_tensor

SCHEDULE = "schedule"
"""The third key of a group, beside ``"lr"``, that belongs to the schedule."""


@dataclass(slots=True, eq=False)
class Followed:
    """A group's part in the schedule.

    Attributes:
        params: The group's list of parameters, which stays the same through loads.
        first: The first of them, None if there is none.
        place: Where that is.
        device: Where its rate is worked out; the CPU for one that gets numbers.
        gets_tensor: Whether its ``"lr"`` is a tensor that the device fills.
        base: The rate that the schedule is a factor of, the very object in ``"initial_lr"``.
        schedule: The object in ``"schedule"``.
        given: What was in ``"lr"`` before.
        had_base: Whether ``"initial_lr"`` was there before.
        lr: What is in ``"lr"`` now.
        version: How often that tensor had been written to.
        count: The tensor in ``"steps_applied"``.
    """

    params: list[Tensor]
    first: Tensor | None
    place: torch.device | None
    device: torch.device
    gets_tensor: bool
    base: float
    schedule: PlainSchedule | None
    given: Any
    had_base: bool
    lr: Any = 0.0
    version: int = 0
    count: Any = None

    def has_moved(self) -> bool:
        """Tell whether the parameters are on another device now: all of a model's move together."""
        return self.first is not None and self.first.device != self.place

    def again(self, optimizer: Optimizer, group: Mapping[str, Any], index: int) -> "Followed":
        """Return what a group is to follow after a change; see `follow` for errors."""
        now = follow(optimizer, {**group, "lr": self.given}, index)
        now.given, now.had_base = self.given, self.had_base
        return now

    def put_into(self, group: dict[str, Any]) -> None:
        """Put into a group what it is to hold."""
        group.update({"lr": self.lr, BASE: self.base, SCHEDULE: self.schedule, COUNT: self.count})

    def take_out_of(self, group: dict[str, Any]) -> None:
        """Put back what was in the group before, at its base rate."""
        for key in (SCHEDULE, COUNT, BASE):
            group.pop(key, None)
        group["lr"] = self.base
        if isinstance(self.given, Tensor):
            group["lr"] = self.given.fill_(self.base)
        if self.had_base:
            group[BASE] = self.base


def follow(optimizer: Optimizer, group: Mapping[str, Any], index: int) -> Followed:
    """Return what a group is to follow. Changes nothing.

    Raises:
        TypeError: Its rate is no number, or its schedule is none.
        ValueError: Its rate is out of range, or it is on several devices.
        RuntimeError: It could have neither a tensor nor numbers.
    """
    params = group["params"]
    base = checked_rate(group.get(BASE, group.get("lr")), index)
    schedule = plain_schedule(group.get(SCHEDULE))
    gets_tensor = takes_tensor(optimizer, group)
    device = torch.device("cpu")
    if gets_tensor:
        devices = {home(p) for p in params} or {device}
        if len(devices) > 1:
            raise ValueError(
                f"group {index} has parameters on {', '.join(sorted(map(str, devices)))}, its rate "
                "is a tensor on one device: make a group for each device"
            )
        (device,) = devices
    elif getattr(optimizer, "_step_supports_amp_scaling", False) and not refuses_amp(optimizer):
        raise RuntimeError(
            f"{type(optimizer).__name__} skips steps of AMP on the device, where the host cannot "
            f"count them, and group {index} is not known to take a tensor lr: "
            f"{remedy(optimizer)}, or set optimizer._step_supports_amp_scaling = False, with which "
            "GradScaler itself skips"
        )
    return Followed(
        params=params,
        first=params[0] if params else None,
        place=params[0].device if params else None,
        device=device,
        gets_tensor=gets_tensor,
        base=base,
        schedule=schedule,
        given=group["lr"],
        had_base=BASE in group and COUNT not in group,
    )


def checked_rate(value: Any, index: int) -> float:
    """Return a base rate as a float of its own. Waits for the device where it is a tensor on one.

    Raises:
        TypeError: It is no number.
        ValueError: It is below 0 or not finite.
    """
    if is_bool(value) or not is_number(value):
        raise TypeError(
            f"the base rate of group {index} is {value!r}, it must be a number: set "
            f"group['{BASE}'], of which the schedule is a factor"
        )
    rate = 1.0 * float(value)
    if not (math.isfinite(rate) and rate >= 0.0):
        raise ValueError(
            f"the base rate of group {index} is {rate}, it must be finite and not negative: set "
            f"group['{BASE}'], of which the schedule is a factor"
        )
    return rate
