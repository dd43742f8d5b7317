"""What is passed where a schedule belongs, and what to pass in its place."""

import inspect
from collections.abc import Sequence
from typing import Any

TORCHS = "LRScheduler"
CONVERTERS = {"timm": "from_timm", "ignite": "from_ignite", "composer": "from_composer"}
"""By the package that a scheduler is of."""


def remedy(value: Any) -> str:
    """Return what an error advises where ``value`` is no schedule.

    Example:
        >>> remedy(lambda t: 1.0)
        'sample it, schedules.from_callable(function, steps)'
        >>> remedy([0.1, 0.2])
        'make a table of it, schedules.table(values)'
        >>> remedy("cosine(900)")
        'call what builds it, schedules.cosine(...)'
    """
    from . import __all__ as builders
    from .schedule import Schedule

    cls = value if isinstance(value, type) else type(value)
    text = value.partition("(")[0] if isinstance(value, str) else ""
    name = text or getattr(value, "__name__", "")
    if name in builders and name.islower():
        return f"call what builds it, schedules.{name}(...)"
    if cls.__name__ == Schedule.__name__ and cls is not value:
        return "it is of a fused_warmup that was imported before this one, build it again"
    if TORCHS in (base.__name__ for base in cls.__mro__):
        return (
            "pass fused_warmup.from_torch(scheduler), or let fused_warmup.convert(opt, scheduler) "
            "make the optimizer, each with a scheduler that was built"
        )
    package = cls.__module__.partition(".")[0]
    if package in CONVERTERS and not isinstance(value, type):
        return f"pass fused_warmup.{CONVERTERS[package]}(scheduler)"
    if inspect.isroutine(value):
        return "sample it, schedules.from_callable(function, steps)"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"a warm-up of as many steps is schedules.linear_warmup({value})"
    if isinstance(value, Sequence) and any(isinstance(each, Schedule) for each in value):
        return "join them, first.then(second)"
    if getattr(value, "ndim", 0) == 1 or isinstance(value, (list, tuple)):
        return "make a table of it, schedules.table(values)"
    return "build one with fused_warmup.schedules, or sample a function with from_callable"
