"""A scheduler's face for a rate that needs no scheduler: for trainers and loggers that want one."""

import warnings
from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from .._groups import options
from .._groups.values import is_bool, is_number
from .._step.counters import copy_of_count
from .look import Look

if TYPE_CHECKING:
    from .counted import CountedOptimizer


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
    the optimizer's state, so this state does not matter: it may be saved, loaded or lost.
    Reading a rate synchronises with the device that counts the steps.

    What trainers set on a scheduler: ``base_lrs`` sets ``group["lr"]``; ``optimizer`` takes another
    optimizer of this package; ``step(epoch)``, ``last_epoch`` and ``_last_lr`` change nothing, for
    the schedule moves by `steps_applied` alone. It may be a part of SequentialLR and
    ChainedScheduler: the others multiply the base while they are in charge.

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
    def optimizer(self) -> Any:
        """A look at the optimizer whose groups show the rate in force."""
        return self.__dict__.setdefault("_look", Look(self))

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        optimizer = value._of if type(value) is Look else value
        if not hasattr(optimizer, "steps_applied"):
            raise TypeError(
                f"the optimizer is a {type(value).__name__}, which has no schedule to tell the "
                "rate of: set an optimizer of fused_warmup, or use a torch scheduler"
            )
        self._of = optimizer
        self._before = self._seen = self._count()

    @property
    def base_lrs(self) -> list[float | Tensor]:
        """The rates that the schedules are factors of; setting them sets ``group["lr"]``."""
        return [float(group["lr"]) for group in self._of.param_groups]

    @base_lrs.setter
    def base_lrs(self, values: Sequence[float | Tensor]) -> None:
        groups = self._of.param_groups
        are_rates = all(is_number(value) and not is_bool(value) for value in values)
        if len(values) != len(groups) or not are_rates:
            raise ValueError(
                f"base_lrs={values!r} are no rates for {len(groups)} groups: give each one a number"
            )
        with torch.no_grad():
            for group, value in zip(groups, values, strict=True):
                if isinstance(group["lr"], Tensor):  # whose address a captured graph may hold
                    group["lr"].fill_(value)
                else:
                    group["lr"] = value

    @property
    def last_epoch(self) -> int:
        """The step that comes next, as torch's schedulers count. Setting it changes nothing."""
        return self._of.steps_applied

    @last_epoch.setter
    def last_epoch(self, value: int) -> None:
        self._of._two_rates.expected = True
        t = self._of.steps_applied
        if value not in (t, t - 1):  # SequentialLR takes back a step that never was
            warnings.warn(
                f"last_epoch={value} changes nothing, the schedule is at step {t}, which travels "
                "in the optimizer's state: load that, or set the optimizer's steps_applied",
                stacklevel=2,
            )

    @property
    def _last_lr(self) -> list[float | Tensor]:
        self._of._two_rates.expected = True  # ChainedScheduler looks here as it is made
        return [*self.get_last_lr()]

    @_last_lr.setter
    def _last_lr(self, value: Any) -> None:
        """Change nothing: what is told is in force."""

    def step(self, epoch: int | None = None) -> None:
        """Change nothing: the step belongs to the optimizer."""
        self._step_count += 1
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:  # what SequentialLR calls
        self._of._two_rates.expected = True
        self._before, self._seen = self._seen, self._count()

    def _count(self) -> Tensor:
        """A copy of the optimizer's count of steps, on its device."""
        for counter in self._of._counters.by_device.values():
            return copy_of_count(counter)
        return torch.zeros((), dtype=torch.int64, device="cpu")

    def in_force(self) -> options.InForce:
        """Return what tells the rates and momenta in force."""
        t, seen = self._of.steps_applied, int(self._seen)
        if t == seen + 1 and seen <= int(self._before) + 1:  # whoever steps this is about to
            t = seen
        return options.InForce(t)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def get_last_lr(self) -> list[float]:  # type: ignore[override]
        """Return the rate in force, one float a group."""
        in_force = self.in_force()
        return [float(in_force.lr(group)) for group in self._of.param_groups]

    get_lr = get_last_lr  # type: ignore[assignment]

    def _get_closed_form_lr(self) -> list[float]:
        """Return the rate of the step ``last_epoch``."""
        at = options.InForce(self.last_epoch)
        return [float(at.lr(group)) for group in self._of.param_groups]

    def print_lr(self, is_verbose: bool, group: int, lr: float, epoch: float | None = None) -> None:
        """Print a rate, as torch's schedulers once did."""
        if is_verbose:
            when = "" if epoch is None else f"Epoch {epoch}: "
            print(f"{when}adjusting learning rate of group {group} to {lr:.4e}.")

    def state_dict(self) -> dict[str, Any]:
        """Return the number of calls, and beside it what torch's schedulers save, to look at."""
        return {
            "_step_count": self._step_count,
            "last_epoch": self.last_epoch,
            "base_lrs": self.base_lrs,
            "_last_lr": self.get_last_lr(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the number of calls; another scheduler's state does no harm."""
        self._step_count = int(state_dict.get("_step_count", self._step_count))
        self._of.steps_applied  # noqa: B018  # takes over the counts that a loader has put there
        self._before = self._seen = self._count()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_look"}

    def __reduce__(self) -> Any:
        # Pickles name what is public alone, wherever this file may be.
        return methodcaller("scheduler"), (self._of,), self.__getstate__()
