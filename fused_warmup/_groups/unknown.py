"""Entries of a new group that nobody reads, where they were most likely meant for options.

Groups may hold what their users like, and trainers put names and scales there, so that most
unknown entries are no mistake.
"""

import difflib
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from .._advice import advise
from ..schedules import Schedule
from .options import SCHEDULES

WHOLE = ("backend", "unscale", "write_grads")
"""What is passed to the optimizer and holds for all groups."""


def warn_of_unknown(given: Mapping[str, Any], options: Collection[str]) -> None:
    """Warn of each entry of a group that changes nothing and looks as if it should.

    Args:
        given: The group, as it was passed.
        options: What groups of this optimizer may set.
    """
    for name, value in given.items():
        if name in options:
            continue
        near = _near(str(name), tuple(options))
        if name in WHOLE:
            advise(f"{name!r} in a group changes nothing: pass {name}= to the optimizer")
        elif isinstance(value, Schedule):
            advise(
                f"{name!r} in a group changes nothing, and is a schedule: a group's is one of "
                f"{', '.join(map(repr, SCHEDULES))}"
            )
        elif near:
            advise(f"{name!r} in a group changes nothing, did you mean {near!r}?")


@lru_cache(256)  # a group for each parameter has the same entries
def _near(name: str, options: tuple[str, ...]) -> str | None:
    alike = [option for option in options if abs(len(option) - len(name)) <= 2]
    return next(iter(difflib.get_close_matches(name, alike, 1, cutoff=0.85)), None)
