"""The options of a parameter group: their defaults, their ranges, and the rate they give."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..schedules import Schedule
from ..schedules.checks import shown
from ..schedules.mistaken import remedy
from ..schedules.plain import PlainSchedule
from .averaging import check_averaging
from .values import check_flag, check_number, check_tensor_lr

START = "schedule_start"
"""The key of a group that holds the step at which its schedules began, above 0 once restarted."""
OWN_DEFAULTS: dict[str, Any] = {
    "schedule": None,
    "momentum_schedule": None,
    "ema_decay": None,
    "ema_schedule": None,
    "ema_every": 1,
    "ema_start": None,
    "master_weights": False,
    START: 0,
}
"""Those that torch.optim.SGD has not."""
DEFAULTS: dict[str, Any] = {
    "nesterov": False,
    "maximize": False,
    "foreach": None,
    "differentiable": False,
    "fused": None,
    **OWN_DEFAULTS,
}
LARS_DEFAULTS: dict[str, Any] = {
    "trust_coefficient": 0.001,
    "eps": 0.0,
    "trust_clip": False,
    "lr_in_momentum": True,
    "adapt": True,
}
"""Those of a group of LARS, beside the options of SGD."""
LARS_FLAGS = tuple(name for name, value in LARS_DEFAULTS.items() if isinstance(value, bool))
SCHEDULES = {"schedule": "lr", "momentum_schedule": "momentum", "ema_schedule": "ema_decay"}
"""The options that are schedules, and what each is a factor of."""
RESTARTED = ("schedule", "momentum_schedule")
"""Those that begin anew where a group is restarted."""
LEAST_LR = -1e-12
"""The lowest rate that is taken: a torch scheduler that ends at 0 may come out a rounding below."""
FLAGS = ("nesterov", "maximize", "differentiable", "foreach", "fused", "master_weights")


def check(group: Mapping[str, Any]) -> None:
    """Check a group's options, each by itself.

    Numbers are those of Python and numpy, arrays of no dimensions, and tensors of one element. Text
    is none, as with torch, nor are Decimal and Fraction, with which torch cannot step.

    Raises:
        TypeError: An option that is no number, or a flag that is neither true nor false.
        ValueError: One that is negative or not finite.
    """
    lr = group["lr"]
    if isinstance(lr, Tensor):
        check_tensor_lr(lr)
    if not isinstance(lr, Tensor) or _is_on_the_host(lr):
        check_number("learning rate", lr, "a schedule may still bring the rate to 0", LEAST_LR)
    check_number("momentum value", group["momentum"], "0 turns momentum off")
    check_number("weight_decay value", group["weight_decay"], "0 turns weight decay off")
    check_number("dampening value", group["dampening"], "0 turns dampening off", -math.inf)
    for name in FLAGS:
        check_flag(name, group.get(name))
    if is_lars(group):
        check_number("trust_coefficient", group["trust_coefficient"], "the paper has 0.001")
        check_number("eps value", group["eps"], "0 adds nothing")
        for name in LARS_FLAGS:
            check_flag(name, group[name])
        if group.get("differentiable"):
            raise ValueError(
                f"differentiable={group['differentiable']!r} in a group of LARS, whose norms "
                "autograd does not run through: take it out, or use SGD"
            )
    check_averaging(group)
    if group.get("master_weights") and group.get("differentiable"):
        raise ValueError(
            "master_weights=True with differentiable=True: autograd cannot run through the "
            "rounding of a master, turn one of the two off"
        )


def is_lars(group: Mapping[str, Any]) -> bool:
    """Tell whether a group is one of LARS."""
    return "trust_coefficient" in group


def check_nesterov(group: Mapping[str, Any]) -> None:
    """Check that the options of a new group go together.

    Not those of one that trains: torch's loop steps on when its momentum is set to 0.

    Raises:
        ValueError: Nesterov momentum without momentum, or with dampening.
    """
    if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
        raise ValueError(
            "Nesterov momentum requires a momentum and zero dampening, got "
            f"momentum={group['momentum']} and dampening={group['dampening']}: set both so, or "
            "nesterov=False"
        )


def settle(groups: Iterable[dict[str, Any]]) -> None:
    """Bring every group's schedules into the form that groups hold, and check all options.

    A schedule that several groups share is read once.

    Args:
        groups: The groups.

    Raises:
        TypeError: An option of the wrong type.
        ValueError: One out of range. Groups that come before it are settled then.
    """
    # By object or by text; the object is held so that its id stays its own.
    settled: dict[int | str, tuple[Any, PlainSchedule | None]] = {}
    for group in groups:
        for name in SCHEDULES:
            value = group[name]
            key = value if isinstance(value, str) else id(value)
            if key not in settled:
                settled[key] = value, plain_schedule(value, name)
            group[name] = settled[key][1]
        check(group)


def _is_on_the_host(tensor: Tensor) -> bool:
    # Elsewhere, reading it would wait for a device or, in a wrapper around a tensor, fail.
    return tensor.device.type == "cpu" and type(tensor) in (Tensor, torch.nn.Parameter)


def plain_schedule(
    schedule: Schedule | Mapping[str, Any] | str | None, name: str = "schedule"
) -> PlainSchedule | None:
    """Return a schedule as the plain data that groups hold; a string is one from a checkpoint.

    What groups hold already stays the same object: what was built from it need not be built again.
    ``name`` is what errors call it.

    Raises:
        TypeError: It is no schedule.
        ValueError: Plain data that make no schedule.
    """
    if schedule is None or isinstance(schedule, PlainSchedule):
        return schedule
    if isinstance(schedule, str):
        try:
            schedule = json.loads(schedule)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{name}={shown(schedule)} is no schedule's text ({error}): load what state_dict() "
                f"gave, or pass a Schedule: {remedy(schedule)}"
            ) from None
    if not isinstance(schedule, (Schedule, Mapping)):
        raise TypeError(
            f"{name}={shown(schedule)} is a {type(schedule).__name__}, it must be a Schedule or "
            f"None: {remedy(schedule)}"
        )
    return PlainSchedule(schedule)


def with_texts(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return groups whose schedules are the texts that state dicts hold.

    torch.distributed.checkpoint takes dicts apart and saves every number in them by its path, so
    that one schedule could only be loaded over another of as many segments with the same fields. A
    string is one value. Numbers keep their bits.
    """
    texts: dict[int, str | None] = {id(None): None}

    def text_of(schedule: Any, name: str) -> str | None:
        if id(schedule) not in texts:
            texts[id(schedule)] = json.dumps(plain_schedule(schedule, name))
        return texts[id(schedule)]

    return [{**group, **{k: text_of(group[k], k) for k in SCHEDULES}} for group in groups]


class InForce:
    """The learning rates and momenta that groups have at step ``t``.

    A schedule that several groups share is read once.

    Args:
        t: The step.
    """

    def __init__(self, t: int) -> None:
        self._t = t
        # Each with the object that it came from, which keeps its id its own.
        self._factors: dict[int, tuple[Any, float]] = {}

    def _factor(self, plain: Mapping[str, Any] | None) -> float:
        if plain is None:
            return 1.0
        if id(plain) not in self._factors:
            self._factors[id(plain)] = plain, Schedule.from_dict(plain)(self._t)
        return self._factors[id(plain)][1]

    def lr(self, group: Mapping[str, Any]) -> Tensor:
        """Return a group's learning rate, float64 on the device of its lr."""
        factor, lr = self._factor(group["schedule"]), group["lr"]
        if isinstance(lr, Tensor):
            check_tensor_lr(lr)
            return lr.detach().reshape(()).to(torch.float64) * factor
        return torch.tensor(float(lr) * factor, dtype=torch.float64, device="cpu")

    def momentum(self, group: Mapping[str, Any]) -> float:
        """Return a group's momentum."""
        momentum = float(group["momentum"])
        return momentum * self._factor(group["momentum_schedule"]) if momentum != 0 else momentum
