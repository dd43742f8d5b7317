"""The rates of the last steps, noted on the device and read when it suits."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .base import CountedOptimizer
from .schedules.checks import whole


class LoggedStep(NamedTuple):
    """One call of the optimizer's step.

    Attributes:
        call: Which call it was, counted from 0 by the log.
        t: The schedule's step: updates applied before this one.
        skipped: Whether AMP skipped it, so that nothing was applied.
        lr: The rate of each group, of the last applied step where this one was skipped.
    """

    call: int
    t: int
    skipped: bool
    lr: list[float]


class RateLog:
    """A ring on the device with the rates, the count and the skips of the last steps.

    Noting a step copies two small tensors on the device, without a sync. `read` starts a copy to
    the host and returns at once; its `Reading.steps` waits only if that copy is not done. Attach it
    to eager steps: a captured graph would write one and the same row at each replay.

    Args:
        optimizer: The optimizer; its steps are noted by a post-hook from now on.
        size: Steps that the ring holds.

    Example:
        >>> import torch, fused_warmup
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> warmup = fused_warmup.linear_warmup(4)
        >>> opt = fused_warmup.SGD([weight], lr=0.8, schedule=warmup)
        >>> log = fused_warmup.RateLog(opt, size=2)
        >>> for _ in range(3):
        ...     weight.sum().backward()
        ...     opt.step()
        >>> [(step.t, step.lr) for step in log.read().steps()]
        [(1, [0.2]), (2, [0.4])]
    """

    def __init__(self, optimizer: CountedOptimizer, size: int = 1024) -> None:
        self.size = whole("size", size, 1)
        self.calls = 0
        self._optimizer = optimizer
        lr, counter = optimizer.lr_tensor(), optimizer._counters.of(optimizer.lr_tensor().device)
        # One row more than the ring: a step is a skip if its count is that of the row before.
        self._counts = counter.repeat(self.size + 1)
        self._rates = torch.zeros(self.size + 1, len(lr), dtype=torch.float64, device=lr.device)
        self._hook = optimizer.register_step_post_hook(self._note)

    @torch.no_grad()
    def _note(self, optimizer: Any, *_: Any) -> None:
        self.calls += 1
        row, lr = self.calls % (self.size + 1), optimizer.lr_tensor()
        self._counts[row].copy_(optimizer._counters.of(lr.device), non_blocking=True)
        self._rates[row].copy_(lr, non_blocking=True)

    def read(self) -> "Reading":
        """Start copying the ring to the host; does not wait for the device."""
        return Reading(self.calls, self.size, self._counts, self._rates)

    def close(self) -> None:
        """Note no more steps."""
        self._hook.remove()


class Reading:
    """What the ring held when it was read."""

    def __init__(self, calls: int, size: int, counts: Tensor, rates: Tensor) -> None:
        self._calls, self._size = calls, size
        pinned = counts.is_cuda
        self._host = [
            torch.empty(t.shape, dtype=t.dtype, device="cpu", pin_memory=pinned).copy_(
                t, non_blocking=pinned
            )
            for t in (counts, rates)
        ]
        self._event: Any = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(counts.device))

    def is_ready(self) -> bool:
        """Tell whether the copy is done, without waiting."""
        return self._event is None or bool(self._event.query())

    def steps(self) -> list[LoggedStep]:
        """Return the steps, oldest first; waits for the copy."""
        if self._event is not None:
            self._event.synchronize()
        counts, rates = (each.tolist() for each in self._host)
        found = []
        for call in range(max(self._calls - self._size, 0), self._calls):
            row, before = (call + 1) % (self._size + 1), call % (self._size + 1)
            skipped = counts[row] == counts[before]
            found.append(LoggedStep(call, counts[before], skipped, rates[row]))
        return found
