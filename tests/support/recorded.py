"""A plan of the Triton backend that launches nothing, but keeps what it would launch."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fused_warmup import _C
from fused_warmup._groups.options import DEFAULTS
from fused_warmup.schedules import Schedule

GROUP = {**DEFAULTS, "lr": 0.5, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0}


PLACES = ("extras", "groups", "line", "shares", "schedules", "n_groups")
"""What `TritonTables.places` tells."""


class Recorded:
    """A plan over some tensors, all in one group.

    Attributes:
        launches: The arguments of each call of the launcher, see `Launcher.__call__`.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        buffers: Sequence[Tensor | None] | None = None,
        marks: Sequence[Tensor | None] | None = None,
        schedules: Sequence[Schedule] = (),
        max_shares: int = 8,
        **group: Any,
    ) -> None:
        nothing = [None] * len(params)
        self.group = {**GROUP, **group}
        self.launches: list[tuple[Any, ...]] = []
        self.plan = _C.TritonPlan(
            lambda *arguments: self.launches.append(arguments),
            max_shares,
            params=list(params),
            momentum_buffers=list(buffers or nothing),
            first_steps=list(marks or nothing),
            group_of=[0] * len(params),
            schedules=[each.pack() for each in schedules],
            schedule_of=[0 if schedules else -1],
            momentum_schedule_of=[len(schedules) - 1],
            t=torch.tensor(0),
            lr=torch.zeros(1, dtype=torch.float64),
        )

    def prepare(self, grads: Sequence[Tensor | None]) -> bool:
        return self.plan.prepare([self.group], list(grads), None, None, True)

    def step(self, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """Return the arguments of the launch."""
        assert self.prepare(grads)
        self.plan.launch(True)
        return self.launches[-1]

    def tables(self) -> "Tables":
        return Tables(self.launches[-1][0])


class Tables:
    """The bytes of a launch's tables, as they would lie at address 0."""

    def __init__(self, tables: Any) -> None:
        self.block = bytearray(tables.size)
        at = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        tables.write(0, at, tables.size)
        self.places = dict(
            zip(
                ("extras", "groups", "line", "shares", "schedules", "n_groups"),
                tables.places(),
                strict=True,
            )
        )

    def number(self, at: int, kind: Any = ctypes.c_int64) -> Any:
        return kind.from_buffer(self.block, at).value

    def column(self, table: str, field: str, n: int, kind: Any = ctypes.c_int64) -> list[Any]:
        """Return a field of the first ``n`` rows of a table."""
        layout = _C.TABLES[table]
        starts = {"TensorEntry": 0, "Group": "groups", "Share": "shares", "Schedule": "schedules"}
        start = self.places.get(starts[table], 0)
        return [self.number(start + i * layout["size"] + layout[field], kind) for i in range(n)]
