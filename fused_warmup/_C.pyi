from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

def schedule_factors(
    segments: bytes, values: Sequence[float], steps: Sequence[int]
) -> list[float]: ...
def cpu_capabilities() -> list[str]: ...

class Watch:
    def __init__(self, state: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]]) -> None: ...
    def unchanged(
        self, state: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]]
    ) -> bool: ...

class HostPlan:
    @property
    def active(self) -> list[Tensor]: ...
    def prepare(
        self,
        groups: Sequence[Mapping[str, Any]],
        grads: Sequence[Tensor | None] | None,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        write_grads: bool,
    ) -> bool: ...

class CpuPlan(HostPlan):
    def __init__(
        self,
        capability: str,
        params: Sequence[Tensor],
        momentum_buffers: Sequence[Tensor | None],
        first_steps: Sequence[Tensor | None],
        group_of: Sequence[int],
        schedules: Sequence[tuple[bytes, Sequence[float]]],
        schedule_of: Sequence[int],
        t: Tensor,
        lr: Tensor,
    ) -> None: ...
    def launch(self, advance: bool) -> bool: ...
