"""A scheduler's face for a rate that needs no scheduler: for trainers and loggers that want one."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from . import options

if TYPE_CHECKING:
    from .base import CountedOptimizer


class RateInForce(LRScheduler):
    """A torch LRScheduler that changes nothing and tells the rate in force: ``opt.scheduler()``.

    As with torch's schedulers, the rate in force is that of the next step,
    ``group["lr"] * schedule(t)``, and between the optimizer's step and the scheduler's still that
    of the step just made; where ``step()`` is not called after each of the optimizer's, it is
    always that of the next. ``get_last_lr()`` gives it, and so does
    ``scheduler.optimizer.param_groups[i]["lr"]``, a read-only look at the groups: loggers such as
    Lightning's LearningRateMonitor read that, and ``"momentum"`` likewise. The optimizer's own
    ``group["lr"]`` stays the base.

    ``step()`` only notes, without a sync, that it was called. The step of the schedule travels in
    the optimizer's state, so this state is of no consequence: it may be saved, loaded or lost.
    Reading a rate synchronises with the device that counts the steps.

    Args:
        optimizer: The optimizer.

    Example:
        >>> import torch, fused_warmup
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> warmup = fused_warmup.linear_warmup(4)
        >>> opt = fused_warmup.SGD([weight], lr=0.8, schedule=warmup)
        >>> scheduler = opt.scheduler()
        >>> for _ in range(2):
        ...     weight.sum().backward()
        ...     opt.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr(), opt.param_groups[0]["lr"]
        ([0.4], 0.8)
    """

    def __init__(self, optimizer: "CountedOptimizer") -> None:
        # Not LRScheduler's: that would write initial_lr into the groups and wrap the step.
        self._step_count = 1
        self._of = optimizer
        self._before: Tensor = self._count()
        self._seen: Tensor = self._before

    @property
    def optimizer(self) -> Any:  # type: ignore[override]
        """A look at the optimizer whose groups show the rate in force."""
        return Look(self)

    @property
    def base_lrs(self) -> list[float]:  # type: ignore[override]
        """The rates that the schedules are factors of."""
        return [float(group["lr"]) for group in self._of.param_groups]

    @property
    def last_epoch(self) -> int:  # type: ignore[override]
        """The step that comes next, as torch's schedulers count."""
        return self._of.steps_applied

    def step(self, epoch: int | None = None) -> None:
        """Change nothing: the step belongs to the optimizer."""
        self._step_count += 1
        self._before, self._seen = self._seen, self._count()

    def _count(self) -> Tensor:
        """A copy of the optimizer's count of steps, on its device."""
        for counter in self._of._counters.by_device.values():
            return counter.clone()
        return torch.zeros((), dtype=torch.int64, device="cpu")

    def in_force(self) -> options.InForce:
        """Return what tells the rates and momenta in force."""
        t, seen = self._of.steps_applied, int(self._seen)
        if t == seen + 1 and seen <= int(self._before) + 1:  # whoever steps this is about to
            t = seen
        return options.InForce(t)

    def get_last_lr(self) -> list[float]:  # type: ignore[override]
        """Return the rate in force, one float a group."""
        in_force = self.in_force()
        return [float(in_force.lr(group)) for group in self._of.param_groups]

    get_lr = get_last_lr  # type: ignore[assignment]

    def state_dict(self) -> dict[str, Any]:
        """Return the number of calls."""
        return {"_step_count": self._step_count}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the number of calls; another scheduler's state does no harm."""
        self._step_count = int(state_dict.get("_step_count", self._step_count))
        self._of.steps_applied  # noqa: B018  # takes over the counts that a loader has put there
        self._before = self._seen = self._count()


class Look:
    """An optimizer to look at: its groups are read-only and hold what is in force."""

    def __init__(self, scheduler: RateInForce) -> None:
        self.__dict__["_scheduler"], self.__dict__["_of"] = scheduler, scheduler._of

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # loggers name curves after the optimizer's class
        return type(self._of)

    @property
    def param_groups(self) -> list[Mapping[str, Any]]:
        """The groups, ``"lr"`` and ``"momentum"`` being those in force."""
        now = self._scheduler.in_force()
        return [
            MappingProxyType({**group, "lr": float(now.lr(group)), "momentum": now.momentum(group)})
            for group in self._of.param_groups
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._of, name, value)

    # Trainers ask whether a scheduler's optimizer is one of theirs.
    def __eq__(self, other: object) -> bool:
        return self._of is (other._of if type(other) is Look else other)

    def __hash__(self) -> int:
        return hash(self._of)
