"""The CUDA kernel (csrc/cuda)."""

from collections.abc import Sequence
from typing import Any

from fused_warmup import _C

from ..schedules import Schedule


def make_cuda_plan(*, schedules: Sequence[Schedule], **what: Any) -> Any:
    """Build the native plan; the arguments are those of `ReferencePlan`."""
    return _C.CudaPlan(schedules=[each.pack() for each in schedules], **what)
