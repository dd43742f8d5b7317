"""What a converter of configs returns: rates as schedules, and what else the config says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...schedules.checks import shown
from ...schedules.schedule import Schedule

MOST_NAMES = 12
"""Most options left over that a summary names; the arguments of a whole run may be a hundred."""


@dataclass(frozen=True, slots=True)
class ConvertedConfig:
    """Base rate and schedules of a framework's config.

    The rate of optimizer step ``t``, counted from 0, is ``lr * schedule(t)``.

    Args:
        framework: Whose config it was, and which part of it.
        schedule: Factor on the learning rate.
        lr: Base learning rate; None where neither the config nor the call names one.
        momentum: Base momentum; None where the config names none.
        momentum_schedule: Factor on the momentum; None: it stays.
        options: What the config says of SGD beside its rates, by SGD's names.
        left: What the config says beside, by its own names: it is left to you.

    Example:
        >>> import fused_warmup
        >>> config = {"SOLVER": {"BASE_LR": 0.02, "MAX_ITER": 90, "STEPS": [60, 80]}}
        >>> rates = fused_warmup.from_detectron2(config["SOLVER"] | {"WARMUP_ITERS": 4})
        >>> [round(rates.lr_at(t), 6) for t in (0, 2, 4, 60, 80)]
        [2e-05, 0.01001, 0.02, 0.002, 0.0002]
    """

    framework: str
    schedule: Schedule
    lr: float | None = None
    momentum: float | None = None
    momentum_schedule: Schedule | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    left: Mapping[str, Any] = field(default_factory=dict)

    def lr_at(self, t: int) -> float:
        """Return the learning rate of optimizer step ``t``, counted from 0.

        Raises:
            ValueError: There is no base rate; ``t`` is negative.
        """
        return self._base() * self.schedule(t)

    def sgd_options(self) -> dict[str, Any]:
        """Return what to give `SGD`: rate, schedules, and the options that the config names.

        Raises:
            ValueError: There is no base rate.
        """
        options = {"lr": self._base(), "schedule": self.schedule, **self.options}
        if self.momentum is not None:
            options["momentum"] = self.momentum
        if self.momentum_schedule is not None:
            options["momentum_schedule"] = self.momentum_schedule
        return options

    def _base(self) -> float:
        if self.lr is None:
            raise ValueError(
                f"lr=None, {self.framework} names no base learning rate: pass lr= to the converter"
            )
        return self.lr

    def _said(self) -> dict[str, Any]:
        return {"lr": self.lr, "momentum": self.momentum, **self.options}

    def __str__(self) -> str:
        parts = [f"{self.framework}: {self.schedule}"]
        parts += [f"{name}={value}" for name, value in self._said().items() if value is not None]
        if self.momentum_schedule is not None:
            parts.append(f"momentum times {self.momentum_schedule}")
        if self.left:
            names = [f"{name}={shown(value)}" for name, value in self.left.items()]
            if len(names) > MOST_NAMES:
                names[MOST_NAMES:] = [f"and {len(names) - MOST_NAMES} more in .left"]
            parts.append(f"left to you: {', '.join(names)}")
        return "; ".join(parts)
