"""``lr_mode`` as a mapping: a scheduler of torch.optim which SuperGradients' trainer steps.

The trainer builds it over the optimizer and steps it at its ``phase``, in epochs from
``lr_warmup_epochs`` on. A warm-up assigns the rate in between; most schedulers then multiply what
it has left. Source: SuperGradients 3.7.1, training/utils/callbacks/callbacks.py
(create_lr_scheduler_callback, LRSchedulerCallback), callbacks/base_callbacks.py (Phase).
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...schedules.checks import shown

PLATEAU = "ReduceLROnPlateau"
SCHEDULERS = (
    *("StepLR", "LambdaLR", "MultiStepLR", "ConstantLR", "CosineAnnealingLR"),
    *("CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR", PLATEAU, "LinearLR"),
)
EPOCH_START, EPOCH_END, VALIDATED = "TRAIN_EPOCH_START", "TRAIN_EPOCH_END", "VALIDATION_EPOCH_END"
BATCH_END, BATCH_STEP = "TRAIN_BATCH_END", "TRAIN_BATCH_STEP"
PHASES = (EPOCH_START, BATCH_END, BATCH_STEP, EPOCH_END, VALIDATED)
"""When a scheduler may step: as an epoch starts, between a batch's loss and the optimizer's step,
after that, and as an epoch or its validation ends."""


@dataclass(frozen=True, slots=True)
class TorchMode:
    """What ``lr_mode`` says: a scheduler's class, its arguments, when it is stepped."""

    name: str
    arguments: dict[str, Any]
    phase: str
    metric: str | None

    def build(self, lr: float) -> Any:
        """Build the scheduler over an optimizer of one group with a rate.

        Raises:
            ValueError: torch refuses the arguments.
        """
        # Whatever it does with its momentum is no matter of the rates.
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
        arguments = copy.deepcopy(self.arguments)  # for it may call what they hold
        try:
            return getattr(torch.optim.lr_scheduler, self.name)(optimizer, **arguments)
        except Exception as error:
            raise ValueError(
                f"torch.optim.lr_scheduler.{self.name} refuses the arguments that lr_mode has for "
                f"it ({error}): correct them"
            ) from error

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={shown(value)}" for name, value in self.arguments.items())
        return f"{self.name}({arguments}) at {self.phase}"


def read_torch_mode(lr_mode: Mapping[Any, Any]) -> TorchMode:
    """Return a checked ``lr_mode``: ``{"StepLR": {"step_size": 1, "phase": "TRAIN_EPOCH_END"}}``.

    Raises:
        TypeError: The arguments are no mapping.
        ValueError: An unknown scheduler or phase, several of them, a missing metric.
    """
    name = next(iter(lr_mode)) if len(lr_mode) == 1 else None
    if name not in SCHEDULERS:
        raise ValueError(
            f"lr_mode={shown(dict(lr_mode))} must have the name of one torch scheduler that "
            f"SuperGradients knows as its key, {', '.join(SCHEDULERS)}: correct it, or convert "
            "with lr_mode=None and multiply the schedule with that of from_torch"
        )
    given = lr_mode[name]
    if not isinstance(given, Mapping):
        raise TypeError(
            f"lr_mode has {shown(given)} for the torch scheduler {name}, it must be a mapping of "
            "its arguments and its 'phase': pass one"
        )
    arguments = {str(key): value for key, value in given.items()}
    phase = _phase(arguments.pop("phase", None))
    metric = arguments.pop("metric_name", None)
    if phase not in PHASES:
        raise ValueError(
            f"the torch scheduler {name} in lr_mode has the phase {shown(phase)}, it must be one "
            f"of {', '.join(PHASES)}: choose one of these"
        )
    if name == PLATEAU and metric is None:
        raise ValueError(
            f"the torch scheduler {name} in lr_mode has no 'metric_name', it follows one: add it"
        )
    return TorchMode(name, arguments, phase, metric)


def _phase(phase: Any) -> Any:
    """The name of a phase: a text, a member of SuperGradients' enum, or Hydra's call of that."""
    if isinstance(phase, Mapping):
        return phase.get("value", phase)
    return getattr(phase, "name", phase)
