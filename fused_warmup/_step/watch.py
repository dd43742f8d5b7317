"""Whether everything that a plan was built from is still there, asked before each step."""

from collections.abc import Mapping, Sequence
from typing import Any

from .._groups.options import SCHEDULES
from .counters import State


class PythonWatch:
    """csrc/host/watch.h in Python, for installations without the native extension."""

    def __init__(self, state: State, groups: Sequence[Mapping[str, Any]]) -> None:
        self._objects = self._snapshot(state, groups)

    def unchanged(self, state: State, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether everything that the plan relies on is still the same object."""
        now = self._snapshot(state, groups)
        return len(now) == len(self._objects) and all(
            a is b for a, b in zip(now, self._objects, strict=True)
        )

    @staticmethod
    def _snapshot(state: State, groups: Sequence[Mapping[str, Any]]) -> list[Any]:
        objects: list[Any] = []
        for param, entry in state.items():
            objects += [param, entry]
            if isinstance(entry, dict):
                objects += [entry.get(key) for key in ("step", "momentum_buffer", "first_step")]
        for group in groups:
            objects += [group, group["params"], *map(group.get, SCHEDULES), *group["params"]]
        return objects
