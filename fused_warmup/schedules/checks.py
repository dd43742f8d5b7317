"""Checks of arguments; the errors name the value, the constraint and the remedy."""

import math
import operator
from numbers import Real
from typing import SupportsIndex

INT64_MAX = 2**63 - 1


def whole(name: str, value: SupportsIndex, minimum: int = -(2**63)) -> int:
    """Return ``value`` as an int if it is a whole number of at least ``minimum`` in int64.

    Raises:
        TypeError: ``value`` is a bool, a float or anything else that is no integer.
        ValueError: ``value`` lies outside ``[minimum, 2**63 - 1]``.

    Example:
        >>> whole("steps", 3, minimum=1)
        3
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}: pass a count, not a flag")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, got {value!r} of type {type(value).__name__}: "
            "round it to a whole number first"
        ) from None
    if not minimum <= number <= INT64_MAX:
        raise ValueError(
            f"{name} must lie in [{minimum}, {INT64_MAX}], got {number}: pass a value in this range"
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
    if isinstance(value, bool) or not isinstance(value, Real):
        yaml = ", which YAML makes of 1.0e-3 but not of 1e-3" * isinstance(value, str)
        raise TypeError(
            f"{name} must be a real number, got {value!r} of type {type(value).__name__}: "
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
            f"{name} must be a finite number{bounds}, got {value!r}: pass a value in this range"
        )
    return number


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
                f"got {name}={steps!r} together with {in_epochs}={epochs!r} and "
                f"steps_per_epoch={steps_per_epoch!r}: give the length in steps or in epochs"
            )
        return whole(name, steps, minimum)
    if epochs is None or steps_per_epoch is None:
        raise TypeError(
            f"no length given ({name}=None, {in_epochs}={epochs!r}, "
            f"steps_per_epoch={steps_per_epoch!r}): give {name}, or {in_epochs} with "
            "steps_per_epoch"
        )
    length = finite(in_epochs, epochs, 0.0, exclusive=minimum > 0)
    per_epoch = whole("steps_per_epoch", steps_per_epoch, 1)
    count = int(length) * per_epoch + math.floor(length % 1.0 * per_epoch + 0.5)
    if count < minimum or (count == 0 and length > 0):
        raise ValueError(
            f"{in_epochs}={epochs!r} at steps_per_epoch={per_epoch} rounds to {count} steps, "
            f"fewer than {max(minimum, 1)}: make it longer"
        )
    return whole(name, count, minimum)
