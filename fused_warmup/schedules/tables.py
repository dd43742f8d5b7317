"""Tables: one value per step, for schedules that no formula here states."""

from collections.abc import Callable, Iterable
from typing import Literal

from .checks import MAX_VALUES, at_most, finite, numbers, shown, steps_of
from .schedule import Schedule
from .segment import Kind, Segment

Beyond = Literal["hold", "repeat"]


def table(values: Iterable[float], past_end: Beyond = "hold") -> Schedule:
    """Take the factor of each step from a list.

    ``values[min(t, len(values) - 1)]``, or ``values[t % len(values)]`` with
    ``past_end="repeat"``; the first three values are the list's. 8 bytes a step on the device.

    Args:
        values: One factor per step, at least 0: a sequence, a numpy array or a tensor.
        past_end: ``"hold"``: the last value stays; ``"repeat"``: the list starts over.

    Returns:
        A schedule of ``len(values)`` steps, endless if it repeats.

    Raises:
        TypeError: A value that is no real number.
        ValueError: No values, or more than 4,194,304; one that is negative, infinite or NaN; an
            unknown ``past_end``.

    Example:
        >>> table([1.0, 0.5, 0.25])(range(5))
        [1.0, 0.5, 0.25, 0.25, 0.25]
        >>> table([1.0, 0.5, 0.25], past_end="repeat")(range(5))
        [1.0, 0.5, 0.25, 1.0, 0.5]
    """
    if past_end not in ("hold", "repeat"):
        raise ValueError(
            f"past_end must be 'hold' or 'repeat', got {shown(past_end)}: use one of these"
        )
    row = numbers("values", values, 0.0)
    if not row:
        raise ValueError("got an empty table, it needs at least one value: use constant() for none")
    repeat = past_end == "repeat"
    segment = Segment(Kind.TABLE, period=len(row) if repeat else 0, values=row)
    return Schedule((segment,), None if repeat else len(row))


def from_callable(
    fn: Callable[[int], float],
    steps: int | None = None,
    past_end: Beyond = "hold",
    *,
    epochs: float | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Sample any function of the step, such as the lambda of a LambdaLR.

    ``fn(t)`` for ``t < steps``; the first three values are fn(0), fn(1), fn(2). ``fn`` is called
    here, once per step, and never again.

    Args:
        fn: From the step, an int, to a factor of at least 0.
        steps: Length in steps (updates of the optimizer).
        past_end: ``"hold"``: the last value stays; ``"repeat"``: the samples start over.
        epochs: Length in epochs instead, may be fractional, rounded to the nearest step.
        steps_per_epoch: Steps per epoch, with ``epochs``.

    Returns:
        A schedule of ``steps`` steps, endless if it repeats.

    Raises:
        TypeError: ``fn`` is not callable or returns no real number; both lengths or none.
        ValueError: A sample that is negative, infinite or NaN (the error names its step); a
            length below one step or above 4,194,304; an unknown ``past_end``.

    Source:
        torch's LambdaLR.

    Example:
        >>> from_callable(lambda t: 1 / (1 + t), 3)(range(4))
        [1.0, 0.5, 0.3333333333333333, 0.3333333333333333]
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable, got {shown(fn)}: use table() for values at hand")
    length = steps_of(steps, epochs, steps_per_epoch)
    at_most("values", length, MAX_VALUES)
    return table((finite(f"fn({t})", fn(t), 0.0) for t in range(length)), past_end)
