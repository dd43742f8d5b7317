from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, Unpack

from torch import Tensor
from torch.optim import Optimizer

def schedule_factors(
    segments: bytes, values: Sequence[float], steps: Sequence[int]
) -> list[float]: ...
def share_sizes(sizes: Sequence[int], resident_blocks: int) -> list[int]: ...
def norm_slots(sizes: Sequence[int]) -> int: ...
def cpu_capabilities() -> list[str]: ...
def cuda_unavailable_reason() -> str: ...
def cuda_device_obstacle(device: int) -> str: ...  # where the build has CUDA
def reads_libtorch() -> bool: ...
def reads_torch_words() -> bool: ...

TABLES: dict[str, dict[str, int]]

class Watch:
    def __init__(self, state: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]]) -> None: ...
    def unchanged(self, state: Mapping[Any, Any], groups: Sequence[Mapping[str, Any]]) -> bool: ...

class PlanArguments(TypedDict):
    params: Sequence[Tensor]
    momentum_buffers: Sequence[Tensor | None]
    first_steps: Sequence[Tensor | None]
    group_of: Sequence[int]
    schedules: Sequence[tuple[bytes, Sequence[float]]]
    schedule_of: Sequence[int]
    momentum_schedule_of: Sequence[int]
    t: Tensor
    lr: Tensor
    emas: NotRequired[Sequence[Tensor | None]]
    masters: NotRequired[Sequence[Tensor | None]]
    ema_schedule_of: NotRequired[Sequence[int]]
    norms: NotRequired[Any]

class HostPlan:
    @property
    def active(self) -> list[Tensor]: ...
    def prepare(
        self,
        groups: Sequence[Mapping[str, Any]] | None,  # None: as the last step read them
        grads: Sequence[Tensor | None] | None,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        write_grads: bool,
    ) -> bool: ...
    def give_rates_to(self, given: Tensor) -> None: ...
    def measure(self) -> None: ...
    def launch(self, advance: bool) -> bool: ...

class HostStep:
    def __init__(
        self,
        watch: Watch,
        frozen: Sequence[Tensor],
        plans: Sequence[HostPlan],
        counts: bool,
    ) -> None: ...
    def run(
        self,
        state: Mapping[Any, Any],
        groups: Sequence[Mapping[str, Any]],
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        write_grads: bool,
    ) -> bool: ...
    def run_alone(self, optimizer: Optimizer, /) -> bool: ...

class CpuPlan(HostPlan):
    def __init__(
        self,
        capability: str,
        **what: Unpack[PlanArguments],
    ) -> None: ...

class EmulatedPlan(HostPlan):
    def __init__(
        self,
        resident_blocks: int,
        **what: Unpack[PlanArguments],
    ) -> None: ...
    @property
    def n_blocks(self) -> int: ...
    @property
    def ticket(self) -> int: ...
    def set_block_order(self, order: Sequence[int]) -> None: ...
    def launch_with(self, launch: Callable[..., None] | None) -> None: ...

class TritonTables:
    @property
    def size(self) -> int: ...
    @property
    def changing_size(self) -> int: ...
    @property
    def groups_at(self) -> int: ...
    @property
    def layout(self) -> int: ...
    def write(self, base: int, to: int, size: int) -> None: ...
    def places(self) -> list[int]: ...

class TritonPlan(HostPlan):
    def __init__(
        self,
        launcher: Callable[..., bool | None],
        max_shares: int,
        **what: Unpack[PlanArguments],
    ) -> None: ...
    @property
    def launcher(self) -> Any: ...
    @property
    def n_captured(self) -> int: ...
    def update_captured(self, groups: Sequence[Mapping[str, Any]]) -> bool: ...

class CudaPlan(HostPlan):  # where the build has CUDA
    def __init__(
        self,
        **what: Unpack[PlanArguments],
    ) -> None: ...
    @property
    def n_captured(self) -> int: ...
    def update_captured(self, groups: Sequence[Mapping[str, Any]]) -> bool: ...
