"""What steps put on the device, read from torch.profiler's own trace."""

import json
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

_STEPS = "steps under trace"
# Runtime (cuda*) and driver (cu*) calls that keep the host waiting for the device.
_SYNC = re.compile(
    r"^(cuda(Device|Stream|Event)Synchronize|cu(Ctx|Stream|Event)Synchronize(_v2)?"
    r"|cudaMemcpy(_ptsz)?|cuMemcpy(HtoD|DtoH)(_v2)?)$"
)


@dataclass(frozen=True)
class Trace:
    """Counts of one step, and the time that the device was busy with it.

    Attributes:
        steps: Steps that were traced; all numbers below are sums over them.
        kernels: Names of the kernels launched, in order.
        copies: Copies and fills of device memory.
        syncs: Names of the host's calls that waited for the device.
        busy: Seconds of kernels, copies and fills.
    """

    steps: int
    kernels: tuple[str, ...]
    copies: int
    syncs: tuple[str, ...]
    busy: float

    def a_step(self) -> dict[str, Any]:
        """Return the numbers of one step as plain data."""
        return {
            "kernels": len(self.kernels) / self.steps,
            "copies": self.copies / self.steps,
            "syncs": len(self.syncs) / self.steps,
            "busy": self.busy / self.steps,
            "names": sorted(set(self.kernels))[:8],
        }


def trace_of(step: Callable[[], Any], steps: int = 5) -> Trace:
    """Run steps under the profiler. Warm them up first: what is uploaded once would count."""
    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    if cuda:
        torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler's own, which tests would make errors
        with profile(activities=activities) as profiler:
            with record_function(_STEPS):
                for _ in range(steps):
                    step()
            if cuda:
                torch.cuda.synchronize()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "trace.json")
            profiler.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
    return read(events, steps)


def read(events: list[dict[str, Any]], steps: int) -> Trace:
    """Sum up the events of a trace in Chrome's format, whose times are in microseconds."""
    (region,) = [e for e in events if e.get("cat") == "user_annotation" and e.get("name") == _STEPS]
    begin, end = region["ts"], region["ts"] + region["dur"]
    kernels = sorted((e for e in events if e.get("cat") == "kernel"), key=lambda e: e["ts"])
    copies = [e for e in events if e.get("cat") in ("gpu_memcpy", "gpu_memset")]
    calls = [e for e in events if e.get("cat") in ("cuda_runtime", "cuda_driver")]
    syncs = [e for e in calls if _SYNC.match(e["name"]) and begin <= e["ts"] <= end]
    return Trace(
        steps,
        tuple(e["name"] for e in kernels),
        len(copies),
        tuple(e["name"] for e in syncs),
        sum(e["dur"] for e in kernels + copies) * 1e-6,
    )
