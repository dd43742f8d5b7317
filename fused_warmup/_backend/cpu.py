"""The native CPU kernel (csrc/cpu/plan.cpp)."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from fused_warmup import _C

from ..schedules import Schedule


@cache
def capability() -> str:
    """Return the instruction set in use: the best that the processor, this build and torch share.

    torch's own choice is a bound because it decides roundings: its baseline kernels have no fused
    multiply-add, and the native kernel gives torch's numbers. ``ATEN_CPU_CAPABILITY`` sets it.
    """
    available: list[str] = _C.cpu_capabilities()
    asked = torch.backends.cpu.get_cpu_capability()
    return available[-1] if asked not in available else asked


def make_cpu_plan(*, schedules: Sequence[Schedule], **what: Any) -> _C.CpuPlan:
    """Build the native plan; the arguments are those of `ReferencePlan`."""
    return _C.CpuPlan(capability(), schedules=[each.pack() for each in schedules], **what)
