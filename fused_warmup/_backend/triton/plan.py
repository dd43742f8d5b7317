"""The Triton backend: one launch a step on GPUs that the CUDA extension does not serve.

Those are AMD's and Intel's, and NVIDIA's where the extension was built without nvcc. `TritonPlan`
finds what changed since the last step and keeps the tables of `kernel.py` up to date.

Under ``TRITON_INTERPRET=1`` Triton runs kernels on the CPU, for debugging, and this backend serves
CPU tensors. That interpreter rounds a fused multiply-add twice and truncates to bfloat16.

In a graph capture, what changes between replays is read from device memory: the step, a tensor lr,
``grad_scale`` and ``found_inf``. Plain numbers stay those of the capture until
`SGD.update_captured`, addresses for good. Run a step before it, which compiles the kernel.
Gradients may be allocated during the capture: the graph then begins with a copy of their addresses,
from pinned memory that nothing else uses.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from ...schedules import Schedule
from . import kernel
from .options import NUMBERS, SWITCHES, in_range, is_on, number
from .tables import DeviceTable, chunk_words, group_row, schedule_words, tensor_words, words_of
from .tensors import Found, Tensors

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
LR_DTYPES = tuple(DTYPES)  # in the order of kernel.py
ACCESS_BYTES = 16  # the widest load and store


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
        momentum_schedule_of: Sequence[int],
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
        self._tensors = Tensors(params, momentum_buffers, tuple(DTYPES))
        self._mark_at = [0 if mark is None else mark.data_ptr() for mark in first_steps]
        self._marks = [mark for mark in first_steps if mark is not None]
        self._groups_without_buffer = _groups_of_none(momentum_buffers, group_of)
        self._groups_without_mark = _groups_of_none(first_steps, group_of)

        schedule_table, places = schedule_words(schedules)
        places.append((0, 0))  # what index -1 finds: no segments, the factor is 1
        self._places = [
            (places[lr], places[momentum])
            for lr, momentum in zip(schedule_of, momentum_schedule_of, strict=True)
        ]
        self._schedules = schedule_table.to(t.device)
        self._t, self._lr = t, lr
        self._tickets = torch.zeros(1, dtype=torch.int32, device=t.device)
        self._chunk_table = DeviceTable(t.device)
        self._tensor_table = DeviceTable(t.device)
        self._group_table = DeviceTable(t.device)
        self.n_captured = 0

        self.active: list[Tensor] = []
        self._found: Found | None = None
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
        if not self._can_count():
            return False
        group_rows = self._read_groups(groups)
        if group_rows is None:
            return False
        for scalar in (grad_scale, found_inf):
            if scalar is not None and not self._is_scalar(scalar, torch.float32):
                return False
        if grads is None:
            grads = [p.grad for p in self._params]
        found = self._tensors.look(grads)
        if found is None:
            return False
        if found is not self._found:
            self._lay_out(found)
        if group_rows != self._group_rows:
            if not all(map(in_range, groups)):
                return False
            self._group_rows, self._group_words = group_rows, words_of(group_rows)
        self._scalars = (found_inf, grad_scale)
        self._write_grads = write_grads and grad_scale is not None
        self._held: Any = (groups, grads)  # until the launch: the tables hold mere addresses
        return True

    def launch(self, advance: bool) -> bool:
        """Queue the step; whether ``found_inf`` skips it is known on the device only."""
        # The kernel writes through bare addresses, of which autograd knows nothing.
        _, grads = self._held
        written = [grad for grad in grads if grad is not None] if self._write_grads else []
        torch.autograd.graph.increment_version([*self.active, *written])
        with self._guard:
            capturing = _capturing(self._device)
            self.n_captured += capturing
            n_items = self._n_chunks + len(self._places)
            kernel.sgd_step[(min(n_items, self._max_programs),)](
                self._chunk_table.holding(self._chunk_words, capturing),
                self._tensor_table.holding(self._tensor_words, capturing),
                self._group_table.holding(self._group_words, capturing),
                self._schedules,
                self._t,
                self._lr,
                self._tickets,
                *self._scalars,
                self._n_chunks,
                len(self._places),
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

    def update_captured(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Give the groups' present options to launches that graphs hold, if they are for these."""
        group_rows = self._read_groups(groups)
        if group_rows is None:
            return False
        with self._guard:
            self._group_table.rewrite_captured(words_of(group_rows))
        self._held_by_graphs = groups  # a tensor lr among them
        return True

    def _can_count(self) -> bool:
        """Tell whether the count, the rates and the marks are still what the tables were made for.

        Whoever has the state may resize them, or give them other memory or another dtype.
        """
        mark_at = [mark.data_ptr() for mark in self._marks]
        return (
            self._is_scalar(self._t, torch.int64)
            and all(self._is_scalar(mark, torch.int64) for mark in self._marks)
            and mark_at == [at for at in self._mark_at if at]
            and self._lies_here(self._lr, torch.float64)
            and self._lr.shape == (len(self._places),)
            and self._lr.is_contiguous()
        )

    def _read_groups(self, groups: Sequence[Mapping[str, Any]]) -> bytes | None:
        """Return the rows of all groups; None where one holds what is not for the kernel."""
        if len(groups) != len(self._places):
            return None
        rows = []
        for i, group in enumerate(groups):
            try:
                lr = self._rate(group["lr"])
                numbers = [number(group[name]) for name in NUMBERS]
                switches = [is_on(group[name]) for name in SWITCHES]
            except (TypeError, ValueError, RuntimeError, OverflowError):
                return None  # no numbers; Python's own path says so
            _, momentum, dampening = numbers
            if momentum != 0 and i in self._groups_without_buffer:
                return None
            if momentum != 0 and dampening != 0 and i in self._groups_without_mark:
                return None
            rows.append(group_row(lr, *self._places[i], [*numbers, *switches]))
        return b"".join(rows)

    def _rate(self, lr: Any) -> float | tuple[int, int]:
        """Return a base rate as a number, or the address and dtype of one on the device."""
        if not isinstance(lr, Tensor):
            return number(lr)
        if self._is_scalar(lr, *LR_DTYPES):
            return lr.data_ptr(), LR_DTYPES.index(lr.dtype)
        with self._guard:
            if not lr.is_cpu or _capturing(self._device):
                raise TypeError("a graph cannot read a rate that lies elsewhere at each replay")
        return number(lr)

    def _lay_out(self, found: Found) -> None:
        """Make the tables for tensors that lie where they were found."""
        tensors = self._tensors
        own_dtypes = [tensors.dtypes[i] for i in found.active]
        pairs = list(zip(own_dtypes, found.grad_dtypes, strict=True))
        distinct = sorted(set(pairs), key=str)
        self._pairs = tuple((DTYPES[own], DTYPES[grad]) for own, grad in distinct)
        widest = max((dtype.itemsize for pair in distinct for dtype in pair), default=4)
        self._vector = ACCESS_BYTES // widest

        sizes = [tensors.sizes[i] for i in found.active]
        self._tensor_words = tensor_words(
            found.param_at,
            found.grad_at,
            [tensors.buffer_at[i] for i in found.active],
            [self._mark_at[i] for i in found.active],
            sizes,
            [self._group_of[i] for i in found.active],
            [distinct.index(pair) for pair in pairs],
        )
        if sizes != self._sizes:
            self._sizes = sizes
            self._chunk_words, self._n_chunks = chunk_words(sizes, BLOCK)
        self._found = found
        self.active = tensors.params

    def _is_scalar(self, tensor: Tensor, *dtypes: torch.dtype) -> bool:
        return tensor.numel() == 1 and self._lies_here(tensor, *dtypes)

    def _lies_here(self, tensor: Tensor, *dtypes: torch.dtype) -> bool:
        return tensor.dtype in dtypes and tensor.device == self._device and not tensor.is_neg()


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
