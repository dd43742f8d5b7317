"""Time on a CUDA device, by events around steps that wait in a full queue and find a cold cache.

A step is launched while a spinning kernel holds the device, so that its launches wait in the queue
and the host's time does not show.

What a step touches must come from memory, not from the L2 cache. Large sets are therefore stepped
back to back and in rotation over copies of their own, which keeps reads and write-backs in balance.
Small sets, of which that would take too many, are each preceded by a buffer larger than the cache
being written; the step then also pays for evicting that, at most as many bytes as it touches.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .measure import Sampler

QUEUE = 400  # the driver takes about a thousand launches before the host must wait for the device
COLD = 8  # a rotation touches this many times the L2 cache
MAX_SETS = 4


def l2_bytes() -> int:
    """Return the size of the device's L2 cache."""
    return torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size


def sets_for(set_bytes: int) -> int:
    """Return over how many copies of a set to rotate; 1 where the cache is flushed instead."""
    needed = -(-COLD * l2_bytes() // max(set_bytes, 1))
    return needed if needed <= MAX_SETS else 1


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)


class DeviceTimer:
    """Makes samplers of device time. Needs a CUDA device."""

    def __init__(self, device: str = "cuda") -> None:
        self.device = device
        self._flush = torch.empty(4 * l2_bytes(), dtype=torch.uint8, device=device)
        self._spins_a_second = self._calibrate()

    def _calibrate(self) -> float:
        spins = 20_000_000
        torch.cuda._sleep(spins)
        begin, end = _event(), _event()
        begin.record()
        torch.cuda._sleep(spins)
        end.record()
        end.synchronize()
        return spins / (begin.elapsed_time(end) * 1e-3)

    def _back_to_back(self, steps: Sequence[Callable[[], Any]], batch: int) -> list[Any]:
        begin, end = _event(), _event()
        begin.record()
        for i in range(batch):
            steps[i % len(steps)]()
        end.record()
        return [(begin, end, batch)]

    def _flushed(self, steps: Sequence[Callable[[], Any]], batch: int) -> list[Any]:
        pairs = []
        for i in range(batch):
            self._flush.zero_()
            begin, end = _event(), _event()
            begin.record()
            steps[i % len(steps)]()
            end.record()
            pairs.append((begin, end, 1))
        return pairs

    def sampler(
        self, steps: Sequence[Callable[[], Any]], launches: float, set_bytes: int
    ) -> Sampler | None:
        """Return a sampler of one step's device time, or None where the queue cannot hold a step.

        Args:
            steps: The same step over each copy of the set, as many as `sets_for` says; each has
                run before.
            launches: Kernels and copies of a step.
            set_bytes: What a step touches.
        """
        flush = set_bytes * len(steps) < COLD * l2_bytes()
        queue = self._flushed if flush else self._back_to_back
        batch = int(min(8, QUEUE // (launches + 4)))
        if batch < 1:
            return None
        torch.cuda.synchronize()
        host_begin = time.perf_counter()
        queue(steps, batch)
        host_seconds = time.perf_counter() - host_begin
        spins = int((1.5 * host_seconds + 5e-4) * self._spins_a_second)

        def sample() -> float:
            torch.cuda.synchronize()
            torch.cuda._sleep(spins)
            found = queue(steps, batch)
            torch.cuda.synchronize()
            return statistics.median(b.elapsed_time(e) / n for b, e, n in found) * 1e-3

        return sample


def copy_bandwidth(timer: DeviceTimer, sizes: Sequence[int], samples: int = 15) -> dict[str, float]:
    """Return the copy bandwidth in bytes a second, bytes read and bytes written both counted.

    The best of some sizes in bytes, each the median of its samples.
    """
    best: dict[str, float] = {"bytes_a_second": 0.0}
    for n_bytes in sizes:
        source = torch.empty(n_bytes // 4, device=timer.device).normal_()
        target = torch.empty_like(source)
        target.copy_(source)

        def copy(target: torch.Tensor = target, source: torch.Tensor = source) -> None:
            target.copy_(source)

        sample = timer.sampler([copy], 1, 2 * n_bytes)
        assert sample is not None
        rate = 2 * n_bytes / statistics.median(sample() for _ in range(samples))
        if rate > best["bytes_a_second"]:
            best = {"bytes_a_second": rate, "bytes": 2 * n_bytes, "n": samples}
    return best
