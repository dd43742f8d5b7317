"""A schedule as the plain data of a parameter group: it reads like a dict, and cannot be edited.

Kernels work with what they were given when a schedule was put into a group, and an edit within it
could not be noticed without reading all of it at every step.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from .schedule import Schedule


def _refuse(self: object, *_: Any, **__: Any) -> NoReturn:
    raise TypeError(
        "a schedule in a parameter group cannot be edited in place: edit a copy.deepcopy() of it, "
        "or build another, and assign that as group['schedule'] or group['momentum_schedule']"
    )


class ReadOnlyList(list[Any]):
    """A list that cannot be edited; copies can."""

    __slots__ = ()

    append = extend = insert = pop = remove = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def copy(self) -> list[Any]:
        """Return a copy that can be edited."""
        return [each.copy() if isinstance(each, ReadOnlyDict) else each for each in self]

    def __copy__(self) -> list[Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (tuple(self.copy()),)


class ReadOnlyDict(dict[str, Any]):
    """A dict that cannot be edited; copies can.

    A pickle holds nothing but types that ``torch.load(weights_only=True)`` knows.
    """

    __slots__ = ()

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def copy(self) -> dict[str, Any]:
        """Return a copy that can be edited."""
        return {k: v.copy() if isinstance(v, ReadOnlyList) else v for k, v in self.items()}

    def __copy__(self) -> dict[str, Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return OrderedDict, (list(self.copy().items()),)


def _read_only(plain: Any) -> Any:
    if isinstance(plain, dict):
        return ReadOnlyDict({key: _read_only(value) for key, value in plain.items()})
    if isinstance(plain, list):
        # The numbers of a table may be millions: they are as they are.
        numbers = not plain or isinstance(plain[0], float)
        return ReadOnlyList(plain if numbers else map(_read_only, plain))
    return plain


class PlainSchedule(ReadOnlyDict):
    """`Schedule.to_dict` of a schedule, which it keeps beside.

    Args:
        plain: A schedule, or its plain data.

    Raises:
        TypeError: It is no schedule.
        ValueError: Plain data that make no schedule.

    Example:
        >>> from fused_warmup.schedules import linear
        >>> plain = PlainSchedule(linear(4))
        >>> plain["steps"], plain == linear(4).to_dict(), plain.schedule == linear(4)
        (4, True, True)
        >>> plain["steps"] = 5
        Traceback (most recent call last):
        TypeError: a schedule in a parameter group cannot be edited in place: ...
    """

    __slots__ = ("schedule",)

    def __init__(self, plain: "Schedule | Mapping[str, Any] | Iterable[tuple[str, Any]]") -> None:
        from .schedule import Schedule

        given = plain if isinstance(plain, (Schedule, Mapping)) else dict(plain)
        self.schedule = Schedule.from_dict(given)
        super().__init__(_read_only(self.schedule.to_dict()))
