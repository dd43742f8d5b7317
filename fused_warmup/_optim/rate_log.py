"""The rates of the last steps, noted on the device and read when it suits."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..schedules.checks import whole
from .attached import Attached
from .counted import CountedOptimizer


class LoggedStep(NamedTuple):
    """One call of the optimizer's step.

    Attributes:
        call: Which call it was, counted from 0 by the log.
        t: The schedule's step: updates applied before this one.
        skipped: Whether nothing was applied: AMP skipped the step, or there was no gradient.
        lr: The rate of each group, of the last applied step where this one was skipped.
    """

    call: int
    t: int
    skipped: bool
    lr: list[float]


class Ring(NamedTuple):
    """The last rows, on the device: (call, count before, count after) and the groups' rates."""

    notes: Tensor
    rates: Tensor


class RateLog:
    """A ring on the device with the rates, the count and the skips of the last steps.

    Noting a step takes six small operations on the device and no sync. Which row comes next is
    counted there too, so that a step in a CUDA graph notes each of its replays; attach the log
    before the steps that warm up a capture. `read` starts a copy to the host and returns at once;
    its `Reading.steps` waits only if that copy is not done.

    A step that the scaler does not even call, as under ``unscale=False``, leaves no row.

    Args:
        optimizer: The optimizer, or the handle of `attach`; its steps are noted by hooks from now
            on.
        size: Steps that the ring holds.

    Raises:
        TypeError: ``size`` is no integer.
        ValueError: ``size`` is below 1.

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

    def __init__(self, optimizer: CountedOptimizer | Attached, size: int = 1024) -> None:
        if not hasattr(optimizer, "lr_tensor"):
            raise TypeError(
                f"got a {type(optimizer).__name__}, which has no schedule of this package to log: "
                "pass an optimizer of fused_warmup, or the handle that attach() returns"
            )
        self.size = whole("size", size, 1)
        self._optimizer = optimizer
        self._rings: list[Ring] = []
        with torch.inference_mode(False):  # hooks outside of it write to what is made here
            self._next = torch.zeros(3, dtype=torch.int64, device="cpu")  # notes of the next row
        self._add_ring(optimizer.lr_tensor())
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    @property
    def calls(self) -> int:
        """Steps noted so far. Reading it synchronises."""
        return int(self._next[0])

    def read(self) -> "Reading":
        """Start copying the ring to the host, on the current stream; waits for nothing."""
        return Reading(self._rings, self.size)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the noted steps as columns, oldest first; waits for the device.

        The columns are those of `LoggedStep`, with one ``lr_0``, ``lr_1``, ... for each group: a
        table for ``pandas.DataFrame``, say. None stands where there was no such group yet.

        Example:
            >>> import torch, fused_warmup
            >>> weight = torch.zeros(1, requires_grad=True)
            >>> warmup = fused_warmup.linear_warmup(4)
            >>> opt = fused_warmup.SGD([weight], lr=0.8, schedule=warmup)
            >>> log = fused_warmup.RateLog(opt)
            >>> log
            RateLog(SGD, size=1024)
            >>> for _ in range(2):
            ...     weight.sum().backward()
            ...     opt.step()
            >>> log.to_dict()
            {'call': [0, 1], 't': [0, 1], 'skipped': [False, False], 'lr_0': [0.0, 0.2]}
        """
        steps = self.read().steps()
        columns: dict[str, list[Any]] = {
            name: [getattr(step, name) for step in steps] for name in ("call", "t", "skipped")
        }
        for i in range(max((len(step.lr) for step in steps), default=0)):
            columns[f"lr_{i}"] = [step.lr[i] if i < len(step.lr) else None for step in steps]
        return columns

    def __repr__(self) -> str:
        # Not how many steps it holds: that would wait for the device.
        of = self._optimizer
        stepped = of.optimizer if isinstance(of, Attached) else of
        return f"RateLog({type(stepped).__name__}, size={self.size})"

    def close(self) -> None:
        """Note no more steps."""
        for hook in self._hooks:
            hook.remove()

    @torch.inference_mode(False)
    def _add_ring(self, lr: Tensor) -> None:
        """Begin a ring for these groups on this device. Graphs may still write to the older."""
        if lr.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                f"a RateLog meets {len(lr)} groups on {lr.device} for the first time while a CUDA "
                "graph is being captured, every replay would empty it: take one step before"
            )
        self._next = self._next.to(lr.device)
        self._call, self._count_before, self._count_after = (
            self._next[i : i + 1] for i in range(3)
        )
        self._new_row = self._next.unsqueeze(0)
        self._row = torch.zeros(1, dtype=torch.int64, device=lr.device)
        self._rings.append(
            Ring(
                torch.full((self.size, 3), -1, dtype=torch.int64, device=lr.device),
                torch.zeros(self.size, len(lr), dtype=torch.float64, device=lr.device),
            )
        )

    # Both hooks write at fixed addresses only, for graphs that replay what they did.
    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _before(self, *_: Any) -> None:
        self._optimizer._take_over_count()
        self._count(self._count_before)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _after(self, *_: Any) -> None:
        lr = self._optimizer.lr_tensor()
        if (lr.device, len(lr)) != (self._next.device, self._rings[-1].rates.shape[1]):
            self._add_ring(lr)
        ring = self._rings[-1]
        self._count(self._count_after)
        torch.remainder(self._call, self.size, out=self._row)
        ring.notes.index_copy_(0, self._row, self._new_row)
        ring.rates.index_copy_(0, self._row, lr.unsqueeze(0))
        self._call.add_(1)

    def _count(self, note: Tensor) -> None:
        """Copy the count; every device has the same, so from another one only after a move."""
        counters = self._optimizer._counters.by_device
        for device in (note.device, *counters):
            if device in counters:
                note.copy_(counters[device], non_blocking=True)
                return


class Reading:
    """What the rings held when they were read."""

    def __init__(self, rings: list[Ring], size: int) -> None:
        self._size = size
        self._host = [Ring(_to_host(ring.notes), _to_host(ring.rates)) for ring in rings]
        self._events: list[Any] = []
        for device in {ring.notes.device for ring in rings if ring.notes.is_cuda}:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(device))
            self._events.append(event)

    def is_ready(self) -> bool:
        """Tell whether the copy is done, without waiting."""
        return all(event.query() for event in self._events)

    def steps(self) -> list[LoggedStep]:
        """Return the steps, oldest first; waits for the copy."""
        for event in self._events:
            event.synchronize()
        found = [
            LoggedStep(call, before, before == after, lr)
            for ring in self._host
            for (call, before, after), lr in zip(*(each.tolist() for each in ring), strict=True)
            if call >= 0
        ]
        return sorted(found)[-self._size :]


def _to_host(tensor: Tensor) -> Tensor:
    pinned = tensor.is_cuda
    host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
    return host.copy_(tensor, non_blocking=pinned)
