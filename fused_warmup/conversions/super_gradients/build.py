"""An optimizer over groups that have their schedules, whatever class it is of."""

from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer

from ..._optim.attached import attach
from ..._optim.counted import CountedOptimizer
from ...schedules.schedule import Schedule
from ...sgd import SGD


def build(
    cls: Callable[..., Any],
    groups: list[dict[str, Any]],
    options: Mapping[str, Any],
    averaging: Mapping[str, Any],
    schedule: Schedule,
) -> Optimizer:
    """Return ``cls(groups, **options)``, which follows the groups' schedules.

    Args:
        cls: A class of optimizers, or a function that returns one.
        groups: Its groups, each with a ``schedule``.
        options: Its options.
        averaging: More options, for `SGD` alone.
        schedule: What groups follow that are added later.
    """
    own = averaging if makes_averages(cls) else {}
    optimizer: Optimizer = cls(groups, **{**own, **options})
    if not isinstance(optimizer, CountedOptimizer):
        attach(optimizer, schedule)
    return optimizer


def makes_averages(cls: Any) -> bool:
    """Tell whether a class averages parameters in its step: `SGD` does."""
    return isinstance(cls, type) and issubclass(cls, SGD)


def drive(optimizer: Optimizer, schedules: Mapping[str, Schedule]) -> Optimizer:
    """Let an optimizer that exists follow the schedules of its groups, and return it."""
    groups = optimizer.param_groups
    if len(groups) != len(schedules):
        raise ValueError(
            f"the optimizer has {len(groups)} groups, and had {len(schedules)} when the recipe was "
            "converted: convert it again"
        )
    for group, schedule in zip(groups, schedules.values(), strict=True):
        group["schedule"] = schedule
    if not isinstance(optimizer, CountedOptimizer):
        attach(optimizer)
    return optimizer
