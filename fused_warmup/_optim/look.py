"""An optimizer to look at: groups that show the rate in force, for loggers that read groups."""

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .scheduler import RateInForce


class Look:
    """A scheduler's optimizer: its groups are read-only and hold what is in force.

    All else is the optimizer's own, attributes that are set included. It equals the optimizer, and
    is an instance of its class to ``isinstance``.

    Args:
        scheduler: What tells the rates in force.
    """

    def __init__(self, scheduler: "RateInForce") -> None:
        self.__dict__["_scheduler"] = scheduler

    @property
    def _of(self) -> Any:
        return self._scheduler._of

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # loggers name curves after the optimizer's class
        return type(self._of)

    @property
    def param_groups(self) -> list["ShownGroup"]:
        """The groups, with ``"lr"`` and ``"momentum"`` in force; ``"initial_lr"`` is the base."""
        now = self._scheduler.in_force()
        return [
            ShownGroup(
                {
                    "initial_lr": float(group["lr"]),
                    **group,
                    "lr": float(now.lr(group)),
                    "momentum": now.momentum(group),
                }
            )
            for group in self._of.param_groups
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._of, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._of, name)

    # Trainers ask whether a scheduler's optimizer is one of theirs.
    def __eq__(self, other: object) -> bool:
        is_look = issubclass(type(other), Look)
        return self._of is (other._of if is_look else other)  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._of)

    def __repr__(self) -> str:
        return str(type(self._of).__repr__(self))  # type: ignore[call-arg]

    def __reduce__(self) -> Any:
        return attrgetter("optimizer"), (self._scheduler,)


class ShownGroup(dict[str, Any]):
    """A copy of a group, to read: what was written to it would be lost."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "the groups of opt.scheduler().optimizer do not support item assignment, they only "
            "show the rates in force: change those of opt.param_groups, where the schedule "
            'multiplies "lr", or set their "schedule" to None first'
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = pop = popitem = clear = _refuse

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return what is there."""
        return self[key] if key in self else self._refuse()

    def __reduce__(self) -> Any:
        return dict, (dict(self),)
