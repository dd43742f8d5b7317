"""The Triton backend: one launch a step on GPUs that the CUDA extension does not serve.

Those are AMD's and Intel's, and NVIDIA's where the extension was built without nvcc. `TritonPlan`
finds what changed since the last step and keeps the tables of `triton_kernel.py` up to date.

Under ``TRITON_INTERPRET=1`` Triton runs kernels on the CPU, for debugging, and this backend serves
CPU tensors. That interpreter rounds a fused multiply-add twice and truncates to bfloat16.

In a graph capture, what changes between replays is read from device memory: the step, a tensor lr,
``grad_scale`` and ``found_inf``. Addresses and plain numbers stay those of the capture. Run a step
before it, which compiles the kernel. Gradients may be allocated during the capture: the graph then
begins with a copy of their addresses from pinned memory that is never written again.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..schedules import Schedule
from . import triton_kernel
from .triton_tables import (
    DeviceTable,
    chunk_words,
    group_row,
    schedule_words,
    tensor_row,
    words_of,
)

# Not tuned on a GPU yet. Compiled for sm_90 this takes 64 registers a thread, so that eight
# programs fit into a multiprocessor, with 16 K elements in flight.
BLOCK = 2048
TAIL = 512
NUM_WARPS = 4
PROGRAMS_PER_MULTIPROCESSOR = 8

DTYPES = {
    torch.float32: triton.language.float32,
    torch.float64: triton.language.float64,
    torch.bfloat16: triton.language.bfloat16,
    torch.float16: triton.language.float16,
}
ACCESS_BYTES = 16  # the widest load and store
OPTIONS = ("weight_decay", "momentum", "dampening", "nesterov", "maximize")
PLAIN = Tensor.__torch_dispatch__
ADDRESS, DTYPE, DEVICE, SHAPE, STRIDE = range(5)  # of _facts

# What captured launches read, kept for as long as the counter, which they read too.
_kept_for_graphs: Any = WeakTensorKeyDictionary()


class TritonPlan:
    """The steps on one device; the interface and the arguments are those of `ReferencePlan`."""

    def __init__(
        self,
        params: Sequence[Tensor],
        momentum_buffers: Sequence[Tensor | None],
        first_steps: Sequence[Tensor | None],
        group_of: Sequence[int],
        schedules: Sequence[Schedule],
        schedule_of: Sequence[int],
        t: Tensor,
        lr: Tensor,
    ) -> None:
        self._device = t.device
        self._guard, multiprocessors = _device_guard(t.device)
        self._max_programs = multiprocessors * PROGRAMS_PER_MULTIPROCESSOR
        with self._guard:
            if _capturing(t.device):
                raise RuntimeError(
                    "the first step after new parameters or a loaded state compiles and uploads, "
                    "which a graph cannot capture: run one step before the capture"
                )
        self._params, self._group_of = params, group_of
        self._layouts = [_facts(p)[1:] for p in params]
        self._momentum_buffers, self._first_steps = momentum_buffers, first_steps
        self._buffer_at, self._mark_at = _addresses(momentum_buffers), _addresses(first_steps)
        self._groups_without_buffer = _groups_of_none(momentum_buffers, group_of)
        self._groups_without_mark = _groups_of_none(first_steps, group_of)
        self._next_buffer = 0

        schedule_table, self._schedule_at = schedule_words(schedules, schedule_of)
        self._schedules = schedule_table.to(t.device)
        self._t, self._lr = t, lr
        self._tickets = torch.zeros(1, dtype=torch.int32, device=t.device)
        self._kept: list[Tensor] = _kept_for_graphs.setdefault(t, [])
        self._chunks = DeviceTable(t.device, self._kept)
        self._tensors = DeviceTable(t.device, self._kept)
        self._groups = DeviceTable(t.device, self._kept)

        self.active: list[Tensor] = []
        self._facts: Any = None
        self._sizes: list[int] | None = None
        self._group_rows = b""

    def prepare(
        self,
        groups: Sequence[Mapping[str, Any]],
        grads: Sequence[Tensor | None] | None,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        write_grads: bool,
    ) -> bool:
        """Read what the step needs and touch nothing. False: it needs another form or plan."""
        group_rows = self._read_groups(groups)
        if group_rows is None or not self._momentum_buffers_stay():
            return False
        for scalar in (grad_scale, found_inf):
            if scalar is not None and not self._is_scalar(scalar, torch.float32):
                return False
        if grads is None:
            grads = [p.grad for p in self._params]
        facts = [
            None if g is None else (_facts(p), _facts(g))
            for p, g in zip(self._params, grads, strict=True)
        ]
        if facts != self._facts:
            if not self._lay_out(facts):
                return False
            self._facts = facts
            self.active = [p for p, g in zip(self._params, grads, strict=True) if g is not None]
        if group_rows != self._group_rows:
            self._group_rows, self._group_words = group_rows, words_of(group_rows)
        self._scalars = (found_inf, grad_scale)
        self._write_grads = write_grads and grad_scale is not None
        self._held: Any = (groups, grads)  # until the launch: the tables hold mere addresses
        return True

    def launch(self, advance: bool) -> bool:
        """Queue the step; whether ``found_inf`` skips it is known on the device only."""
        with self._guard:
            capturing = _capturing(self._device)
            if capturing:
                self._kept += [self._schedules, self._tickets, self._lr]
            n_items = self._n_chunks + len(self._schedule_at)
            triton_kernel.sgd_step[(min(n_items, self._max_programs),)](
                self._chunks.holding(self._chunk_words, capturing),
                self._tensors.holding(self._tensor_words, capturing),
                self._groups.holding(self._group_words, capturing),
                self._schedules,
                self._t,
                self._lr,
                self._tickets,
                *self._scalars,
                self._n_chunks,
                len(self._schedule_at),
                int(advance),
                DTYPES=self._pairs,
                WRITE_GRADS=self._write_grads,
                VECTOR=self._vector,
                BLOCK=BLOCK,
                TAIL=TAIL,
                num_warps=NUM_WARPS,
                enable_fp_fusion=False,
            )
        self._held = None  # gradients must not outlive zero_grad()
        return True

    def _read_groups(self, groups: Sequence[Mapping[str, Any]]) -> bytes | None:
        """Return the rows of all groups; None where one holds what is not for the kernel."""
        if len(groups) != len(self._schedule_at):
            return None
        rows = []
        for i, group in enumerate(groups):
            lr = group["lr"]
            if isinstance(lr, Tensor):
                if not self._is_scalar(lr, torch.float32, torch.float64):
                    return None
                lr = lr.data_ptr(), lr.dtype == torch.float64
            elif not isinstance(lr, (float, int)) or lr < 0 or not math.isfinite(lr):
                return None
            options = [group[name] for name in OPTIONS]
            if not all(isinstance(option, (float, int)) for option in options):
                return None
            _, momentum, dampening, *_ = options
            if momentum != 0 and i in self._groups_without_buffer:
                return None
            if momentum != 0 and dampening != 0 and i in self._groups_without_mark:
                return None
            rows.append(group_row(lr, self._schedule_at[i], options))
        return b"".join(rows)

    def _lay_out(self, facts: Sequence[Any]) -> bool:
        """Make the tables for gradients of these facts; False where one is not for the kernel."""
        found = []
        for i, fact in enumerate(facts):
            if fact is None:
                continue
            own, grad = fact
            if not own or own[1:] != self._layouts[i] or not _matches(grad, own):
                return False
            if own[SHAPE].numel() > 0:
                found.append((i, own, grad))
        pairs = sorted({(own[DTYPE], grad[DTYPE]) for _, own, grad in found}, key=str)
        self._pairs = tuple((DTYPES[own], DTYPES[grad]) for own, grad in pairs)
        self._vector = ACCESS_BYTES // max((d.itemsize for pair in pairs for d in pair), default=4)

        rows = array("q")
        for i, own, grad in found:
            addresses = own[ADDRESS], grad[ADDRESS], self._buffer_at[i], self._mark_at[i]
            pair = pairs.index((own[DTYPE], grad[DTYPE]))
            rows.extend(tensor_row(*addresses, own[SHAPE].numel(), self._group_of[i], pair))
        self._tensor_words = words_of(rows)
        sizes = [own[SHAPE].numel() for _, own, _ in found]
        if sizes != self._sizes:
            self._sizes = sizes
            self._chunk_words, self._n_chunks = chunk_words(sizes, BLOCK)
        return True

    def _is_scalar(self, tensor: Tensor, *dtypes: torch.dtype) -> bool:
        return tensor.dtype in dtypes and tensor.numel() == 1 and tensor.device == self._device

    def _momentum_buffers_stay(self) -> bool:
        # What swaps the memory under state tensors (`.data =`) swaps it under all of them, so a
        # look at one a step, in turn, is enough to notice.
        self._next_buffer = (self._next_buffer + 1) % len(self._momentum_buffers)
        buffer = self._momentum_buffers[self._next_buffer]
        return buffer is None or buffer.data_ptr() == self._buffer_at[self._next_buffer]


def _facts(tensor: Tensor) -> tuple[Any, ...]:
    """Return what the tables rely on, in the order of ADDRESS and so on; () for no plain tensor."""
    if tensor.layout is not torch.strided or type(tensor).__torch_dispatch__ is not PLAIN:
        return ()
    if tensor.is_neg():
        return ()
    return tensor.data_ptr(), tensor.dtype, tensor.device, tensor.shape, tensor.stride()


def _matches(grad: tuple[Any, ...], own: tuple[Any, ...]) -> bool:
    """Tell whether one flat index serves a gradient and its parameter."""
    if not grad or grad[DTYPE] not in DTYPES or grad[DEVICE:STRIDE] != own[DEVICE:STRIDE]:
        return False
    strides = zip(own[SHAPE], own[STRIDE], grad[STRIDE], strict=True)
    # torch keeps any number as the stride of a dimension of size 1.
    return own[SHAPE].numel() == 0 or all(n == 1 or a == b for n, a, b in strides)


def _addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def _groups_of_none(tensors: Sequence[Tensor | None], group_of: Sequence[int]) -> set[int]:
    return {group for tensor, group in zip(tensors, group_of, strict=True) if tensor is None}


def _device_guard(device: torch.device) -> tuple[Any, int]:
    """Return a context that makes a device the current one, and its multiprocessors."""
    if device.type == "cpu":  # the interpreter, which runs programs one after another
        return nullcontext(), 1
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index)
    return torch.get_device_module(device).device(device), properties["multiprocessor_count"]


def _capturing(device: torch.device) -> bool:
    """Tell whether the current stream of the current device is capturing a graph."""
    module = torch.get_device_module(device)
    check = getattr(module, "is_current_stream_capturing", None)
    return check is not None and check()
