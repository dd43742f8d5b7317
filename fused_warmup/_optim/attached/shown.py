"""What others see of an attached schedule: a scheduler's face, and a text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from ..._groups.attached import BASE
from ..look import Look, ShownGroup
from ..scheduler import RateInForce
from .followed import checked_rate
from .takes import remedy

if TYPE_CHECKING:
    from .groups import Groups
    from .handle import Attached


class AttachedRates(RateInForce):
    """What ``handle.scheduler()`` returns; see `RateInForce`.

    The optimizer's own groups hold the rate of the last step. Those of the scheduler's
    ``optimizer`` show the rate in force, as with torch's schedulers, to loggers that read them.

    Args:
        handle: The handle.
    """

    def __init__(self, handle: "Attached") -> None:
        super().__init__(handle)  # type: ignore[arg-type]

    @property
    def optimizer(self) -> Any:
        """A look at the optimizer whose groups show the rate in force."""
        return self.__dict__.setdefault("_look", AttachedLook(self))

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        """Change nothing: trainers set what they wrapped the same optimizer in."""

    @property
    def base_lrs(self) -> list[float | Tensor]:
        """The rates that the schedules are factors of; setting them sets ``"initial_lr"``."""
        return [float(group["lr"]) for group in self._of.param_groups]

    @base_lrs.setter
    def base_lrs(self, values: Sequence[float | Tensor]) -> None:
        groups = self._of.optimizer.param_groups  # type: ignore[attr-defined]
        if len(values) != len(groups):
            raise ValueError(
                f"base_lrs={values!r} are no rates for {len(groups)} groups: give each one a number"
            )
        rates = [checked_rate(value, i) for i, value in enumerate(values)]
        for group, rate in zip(groups, rates, strict=True):
            group[BASE] = rate

    def __reduce__(self) -> Any:
        return self._of.scheduler, ()  # type: ignore[attr-defined]


class AttachedLook(Look):
    """A look at an optimizer with an attached schedule; see `Look`."""

    @property
    def _of(self) -> Any:
        return self._scheduler._of.optimizer

    @property
    def param_groups(self) -> list[ShownGroup]:
        """The groups, with ``"lr"`` in force."""
        rates = self._scheduler.get_last_lr()
        return [
            ShownGroup({**group, "lr": rate})
            for group, rate in zip(self._of.param_groups, rates, strict=True)
        ]


def text_of(optimizer: Optimizer, groups: "Groups") -> str:
    """Return what ``str(handle)`` says: which groups get tensors, and how others would."""
    lines = [f"Attached({type(optimizer).__name__}, {len(groups.followed)} groups)"]
    for part in groups.parts:
        own = [i for i, each in enumerate(groups.followed) if each in part.members]
        which = ", ".join(map(str, own))
        if part.gets_tensor:
            lines.append(f"  groups {which}: tensors that {part.device} fills in each step")
        else:
            lines.append(
                f"  groups {which}: numbers from a count on the host; for rates on the device "
                f"{remedy(optimizer)}"
            )
    return "\n".join(lines)
