"""Checks of arguments; the errors name the value, the constraint and the remedy."""

import math
import operator
from collections.abc import Iterable, Mapping, Set, Sized
from itertools import islice
from numbers import Real
from reprlib import Repr
from typing import Any, SupportsIndex

INT64_MAX = 2**63 - 1
FAR = 2**62
"""Half of int64: what a clock may be told to count, so that sums of two stay within it."""

MAX_VALUES = 2**22
"""Most values in the tables of a schedule: 32 MiB on each device."""
MAX_SEGMENTS = 2**14
"""Most segments of a schedule; a kernel looks through them at every step."""

_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 100, 100


def shown(value: object) -> str:
    """Return what an error says of a value of any size.

    Example:
        >>> shown(list(range(100)))
        '[0, 1, 2, 3, 4, 5, ...]'
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return f"a huge {type(value).__name__}"


def whole(
    name: str, value: SupportsIndex, minimum: int = -(2**63), maximum: int = INT64_MAX
) -> int:
    """Return ``value`` as an int if it is a whole number from ``minimum`` to ``maximum``.

    Raises:
        TypeError: ``value`` is a bool, a float or anything else that is no integer.
        ValueError: ``value`` lies outside ``[minimum, maximum]``.

    Example:
        >>> whole("steps", 3, minimum=1)
        3
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value}: pass a count, not a flag")
    try:
        number = operator.index(value)
    except TypeError:
        if isinstance(value, str):
            remedy = "pass a number, int(...) of it"
        elif isinstance(value, Sized) and not hasattr(value, "ndim"):
            remedy = "pass its len()"  # a DataLoader for the steps of its epoch
        else:
            remedy = "round it to a whole number first"
        raise TypeError(
            f"{name} must be an integer, got {shown(value)} of type {type(value).__name__}: "
            f"{remedy}"
        ) from None
    if not minimum <= number <= maximum:
        raise ValueError(
            f"{name} must lie in [{minimum}, {maximum}], got {shown(number)}: pass a value in this "
            "range"
        )
    return number


def finite(
    name: str,
    value: float,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    exclusive: bool = False,
) -> float:
    """Return ``value`` as a float if it is finite and within ``[minimum, maximum]``.

    Args:
        name: What the error calls the value.
        value: A real number (bools are refused, numpy's scalars are welcome).
        minimum: Lower bound.
        maximum: Upper bound.
        exclusive: The lower bound itself is refused too.

    Raises:
        TypeError: ``value`` is no real number.
        ValueError: ``value`` is NaN, infinite or out of bounds.

    Example:
        >>> finite("gamma", 1, minimum=0)
        1.0
    """
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        yaml = ", which YAML makes of 1.0e-3 but not of 1e-3" * isinstance(value, str)
        raise TypeError(
            f"{name} must be a real number, got {shown(value)} of type {type(value).__name__}: "
            f"pass a float or an int{yaml}"
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    inside = minimum < number if exclusive else minimum <= number
    if not (math.isfinite(number) and inside and number <= maximum):
        bounds = f" {'above' if exclusive else 'of at least'} {minimum:g}" * (minimum > -math.inf)
        bounds += f"{' and' * bool(bounds)} at most {maximum:g}" * (maximum < math.inf)
        raise ValueError(
            f"{name} must be a finite number{bounds}, got {shown(value)}: pass a value in this "
            "range"
        )
    return number + 0.0  # no negative zero, which plain data would lose


def at_most(name: str, count: int | None, limit: int) -> None:
    """Raise if there are more than a schedule can hold, before any of them is made.

    Args:
        name: What there are.
        count: How many; None: more than the limit.
        limit: `MAX_VALUES` or `MAX_SEGMENTS`.

    Raises:
        ValueError: ``count`` is above ``limit``.

    Example:
        >>> at_most("values", 3, MAX_VALUES)
    """
    if count is None or count > limit:
        many = f"more than {limit}" if count is None else shown(count)
        raise ValueError(
            f"the number of {name} must be at most {limit}, got {many}: make it shorter, or use a "
            "formula, or one value an epoch with .stretched(steps_per_epoch)"
        )


def listed(name: str, items: Iterable[Any], limit: int = MAX_SEGMENTS) -> list[Any]:
    """Return a list, a range, an array, a tensor or any other row of things as a list.

    Raises:
        TypeError: It is text, bytes, a set, a mapping or no row at all.
        ValueError: It holds more than ``limit``, which may be without end.

    Example:
        >>> listed("milestones", range(3))
        [0, 1, 2]
    """
    unordered = isinstance(items, (str, bytes, bytearray, memoryview, Set, Mapping))
    if unordered or not isinstance(items, Iterable) or getattr(items, "ndim", 1) == 0:
        raise TypeError(
            f"{name} must be a list, got {shown(items)} of type {type(items).__name__}: pass a "
            "list, a range, an array or a tensor of one dimension"
        )
    row: list[Any] = []
    try:
        count: int | None = len(items)  # type: ignore[arg-type]
    except OverflowError:  # a range beyond what len can tell
        count = None
    except TypeError:  # an iterator
        row = list(islice(items, limit + 1))
        count = len(row) if len(row) <= limit else None
    at_most(name, count, limit)
    if row:
        return row
    # Arrays and tensors hand out Python's own numbers this way, in one go.
    return list(items.tolist() if hasattr(items, "tolist") else items)


def numbers(name: str, values: Iterable[float], minimum: float = -math.inf) -> tuple[float, ...]:
    """Return the values of a table as floats if they are finite and at least ``minimum``.

    Raises:
        TypeError: ``values`` is no row of real numbers.
        ValueError: There are too many, or one is NaN, infinite or below ``minimum``.

    Example:
        >>> numbers("values", range(3))
        (0.0, 1.0, 2.0)
    """
    row = listed(name, values, MAX_VALUES)
    if set(map(type, row)) == {float} and all(map(math.isfinite, row)) and min(row) >= minimum:
        return tuple([value + 0.0 for value in row])
    return tuple(finite(f"{name}[{i}]", value, minimum) for i, value in enumerate(row))


def steps_of(
    steps: int | None,
    epochs: float | None,
    steps_per_epoch: int | None,
    *,
    name: str = "steps",
    in_epochs: str = "epochs",
    minimum: int = 1,
) -> int:
    """Return a length in steps, given either in steps or in epochs.

    ``epochs * steps_per_epoch`` is rounded to the nearest whole step, a half upwards: half an
    epoch of 7 steps is 4 steps.

    Args:
        steps: Length in steps (updates of the optimizer), or None.
        epochs: Length in epochs, may be fractional, or None.
        steps_per_epoch: Updates per epoch; needed with ``epochs`` and refused without.
        name: What the error calls ``steps``: ``"step_size"``, ``"warmup_steps"``, ...
        in_epochs: What the error calls ``epochs``: ``"warmup_epochs"``, ...
        minimum: Smallest length accepted, in steps.

    Raises:
        TypeError: A value of the wrong type; both or neither of the two forms.
        ValueError: A length below ``minimum`` steps, or epochs that round to no step at all.

    Example:
        >>> steps_of(None, 0.5, 7)
        4
    """
    if steps is not None:
        if epochs is not None or steps_per_epoch is not None:
            raise TypeError(
                f"got {name}={shown(steps)} together with {in_epochs}={shown(epochs)} and "
                f"steps_per_epoch={shown(steps_per_epoch)}: give the length in steps or in epochs"
            )
        return whole(name, steps, minimum)
    if epochs is None or steps_per_epoch is None:
        raise TypeError(
            f"no length given ({name}=None, {in_epochs}={shown(epochs)}, "
            f"steps_per_epoch={shown(steps_per_epoch)}): give {name}, or {in_epochs} with "
            "steps_per_epoch"
        )
    length = finite(in_epochs, epochs, 0.0, exclusive=minimum > 0)
    per_epoch = whole("steps_per_epoch", steps_per_epoch, 1)
    count = int(length) * per_epoch + math.floor(length % 1.0 * per_epoch + 0.5)
    if count < minimum or (count == 0 and length > 0):
        raise ValueError(
            f"{in_epochs}={shown(epochs)} at steps_per_epoch={per_epoch} rounds to {count} steps, "
            f"fewer than {max(minimum, 1)}: make it longer"
        )
    return whole(name, count, minimum)
