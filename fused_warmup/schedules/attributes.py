"""The ``__dict__`` of a schedule: torch's LambdaLR saves it and loads it again."""

from typing import Any


class Attributes(dict[str, Any]):
    """A schedule as plain data; it cannot become another one.

    torch.optim.lr_scheduler.LambdaLR saves ``fn.__dict__.copy()`` of whatever is no function, and
    loads with ``fn.__dict__.update(saved)``.
    """

    def update(self, *saved: Any, **named: Any) -> None:
        """Accept the same schedule.

        Raises:
            ValueError: It is another one.
        """
        loaded = dict(*saved, **named)
        if loaded != self:
            raise ValueError(
                f"a schedule cannot change, the loaded state holds {_shown(loaded)} and this "
                f"schedule is {_shown(self)}: build the scheduler over "
                "Schedule.from_dict(state_dict['lr_lambdas'][i]), or set that entry to None to go "
                "on with this one"
            )


def _shown(plain: dict[str, Any]) -> str:
    text = repr(dict(plain))
    return text if len(text) <= 200 else f"{text[:200]}..."


class HasAttributes:
    """A value with slots whose ``__dict__`` is `to_dict` of it."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        raise NotImplementedError

    @property
    def __dict__(self) -> Attributes:  # type: ignore[override]
        return Attributes(self.to_dict())
