"""Schedules set aside for a while, for what rewrites ``group["lr"]`` itself: a rate finder, say."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .counted import CountedOptimizer


SCHEDULES = ("schedule", "momentum_schedule")
"""Those of what others rewrite. That of averages stays."""


class SetAside:
    """The schedules that an optimizer's groups had, and those that new groups would get.

    Args:
        optimizer: The optimizer, whose schedules are taken off.
    """

    def __init__(self, optimizer: "CountedOptimizer") -> None:
        self._outer = optimizer._set_aside
        groups = optimizer.param_groups
        # A load makes new dicts of groups, and keeps their lists of parameters.
        self._had = [(group, group["params"], _schedules(group)) for group in groups]
        self._defaults = _schedules(optimizer.defaults)
        for group in (*groups, optimizer.defaults):
            group.update(dict.fromkeys(SCHEDULES))

    def note(self, added: dict[str, Any], given: Mapping[str, Any]) -> None:
        """Note a group that was added meanwhile: what it was not given, it gets at the end."""
        gets = {name: self._defaults[name] for name in SCHEDULES if name not in given}
        self._had.append((added, added["params"], gets))
        if self._outer is not None:
            self._outer.note(added, given)

    def put_back(self, optimizer: "CountedOptimizer") -> None:
        """Give each group what it had. A schedule that it was given meanwhile stays."""
        for group in optimizer.param_groups:
            _put_back(group, self._schedules_of(group))
        _put_back(optimizer.defaults, self._defaults)

    def _schedules_of(self, group: Mapping[str, Any]) -> Mapping[str, Any]:
        for before, params, had in self._had:
            if group is before or group["params"] is params:
                return had
        return self._defaults  # added by a way that is not ours


def _schedules(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: group.get(name) for name in SCHEDULES}


def _put_back(group: dict[str, Any], had: Mapping[str, Any]) -> None:
    for name, schedule in had.items():
        if group.get(name) is None:
            group[name] = schedule


@contextmanager
def without_schedules(optimizer: "CountedOptimizer") -> Iterator[None]:
    """Take an optimizer's schedules off for a ``with`` block; see `SGD.without_schedules`."""
    outer, optimizer._set_aside = optimizer._set_aside, SetAside(optimizer)
    aside = optimizer._set_aside
    try:
        yield
    finally:
        optimizer._set_aside = outer
        aside.put_back(optimizer)
