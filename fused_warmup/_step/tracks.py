"""The distinct schedules of an optimizer's groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..schedules import Schedule


class Tracks:
    """The distinct schedules of all groups, and which of them each group's options follow."""

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        self._indices: dict[Schedule, int] = {}
        self._known: dict[int, int] = {}  # by the id of a group's plain data, so as to read it once
        self.lr = [self._index(group["schedule"]) for group in groups]
        self.momentum = [self._index(group["momentum_schedule"]) for group in groups]
        self.ema = [self._index(group.get("ema_schedule")) for group in groups]
        self.schedules = list(self._indices)

    def _index(self, plain: Mapping[str, Any] | None) -> int:
        if plain is None:
            return -1
        if id(plain) not in self._known:
            schedule = Schedule.from_dict(plain)
            self._known[id(plain)] = self._indices.setdefault(schedule, len(self._indices))
        return self._known[id(plain)]
