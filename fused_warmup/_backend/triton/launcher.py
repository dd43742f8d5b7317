"""The Triton backend: one launch a step on GPUs that the CUDA extension does not serve.

Those are AMD's and Intel's, and NVIDIA's where the extension was built without nvcc. The extension
looks at the tensors and writes the tables (csrc/triton/plan.cpp), as for its own kernels.
`Launcher` does what only torch and Triton can: it moves tables to the device and launches the
kernel.

Under ``TRITON_INTERPRET=1`` Triton runs kernels on the CPU, for debugging, and this backend serves
CPU tensors. That interpreter rounds a fused multiply-add twice and truncates to bfloat16.

In a graph capture, what changes between replays is read from device memory: the step, a tensor lr,
``grad_scale`` and ``found_inf``. Plain numbers stay those of the capture until
`SGD.update_captured`, addresses for good. Run a step before it, which compiles the kernel.
Gradients may be allocated during the capture: the graph then begins with a copy of their addresses,
from pinned memory that nothing else uses.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor
from triton.compiler import CompiledKernel

from fused_warmup import _C

from ...schedules import Schedule
from . import kernel, norms
from .tables import DeviceTables

# Not tuned on a GPU yet. Compiled for sm_80 this takes 56 registers a thread, so that eight
# programs fit into a multiprocessor, with 8 K elements in flight.
BLOCK = 1024
TAIL = 512
NUM_WARPS = 4
NORMS_WARPS = 1  # the lanes of a sum are those of a warp, four a thread
PROGRAMS_PER_MULTIPROCESSOR = 8
ACCESS_BYTES = 16  # the widest load and store

_TYPES = {
    _C.TABLES["DType"][name]: type_
    for name, type_ in (
        ("FLOAT32", triton.language.float32),
        ("FLOAT64", triton.language.float64),
        ("BFLOAT16", triton.language.bfloat16),
        ("FLOAT16", triton.language.float16),
    )
}


def make_triton_plan(*, schedules: Sequence[Schedule], t: Tensor, **what: Any) -> _C.TritonPlan:
    """Build the plan for one device; the arguments are those of `ReferencePlan`."""
    launcher = Launcher(t.device)
    packed = [each.pack() for each in schedules]
    return _C.TritonPlan(launcher, launcher.max_programs, schedules=packed, t=t, **what)


class Launcher:
    """Launches the kernel on one device, over tables that the extension writes.

    Args:
        device: Where.

    Raises:
        RuntimeError: Its current stream is being captured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._guard, multiprocessors = _device_guard(device)
        self.max_programs = multiprocessors * PROGRAMS_PER_MULTIPROCESSOR
        with self._guard:
            if _capturing(device):
                raise RuntimeError(
                    "the first step after new parameters or a loaded state compiles and uploads, "
                    "which a graph cannot capture: run one step before the capture"
                )
        with torch.inference_mode(False):
            self._tickets = torch.zeros(1, dtype=torch.int32, device=device)
        self._tickets_at = self._tickets.data_ptr()
        self._tables = DeviceTables(device)
        self._compiled: dict[tuple[Any, ...], tuple[CompiledKernel, tuple[Any, ...]]] = {}
        self.n_captured = 0

    def __call__(
        self,
        tables: _C.TritonTables,
        content: int,
        n_programs: int,
        dtype_pairs: int,
        write_grads: bool,
        has_extras: bool,
        t_at: int,
        lr_at: int,
        found_inf_at: int,
        grad_scale_at: int,
        advance: int,
        norms_at: tuple[int, int, int] | None = None,
        measures: bool = False,
        updates: bool = True,
    ) -> bool:
        """Queue the step, and tell whether a graph captured it.

        Args:
            tables: What the kernel is to read.
            content: A number that is another after each change of them.
            n_programs: Programs to start, one for each share of the work.
            dtype_pairs: Which pairs of dtypes occur, see csrc/triton/tables.h.
            write_grads: Whether unscaled gradients are stored.
            has_extras: Whether any tensor has an average or a master.
            t_at: Address of the count of steps.
            lr_at: Address of the rates.
            found_inf_at: That of the float32, or 0 for none.
            grad_scale_at: Likewise.
            advance: Whether the count moves on, 1 or 0: to Triton a bool is of another type.
            norms_at: Of LARS: addresses of the sums, the partial sums and the tickets.
            measures: Whether to launch the first of LARS's kernels, which finds the sums.
            updates: Whether to launch the one that moves parameters.
        """
        with self._guard:
            capturing = _capturing(self._device)
            places = self._tables.holding(tables, content, capturing)
            if measures:
                base, _, _, line_at, shares_at, *_ = places
                found = (base, line_at, shares_at, found_inf_at, grad_scale_at, *(norms_at or ()))
                self._launch((dtype_pairs, grad_scale_at != 0), n_programs, found, capturing)
            if updates:
                squares_at = norms_at[0] if norms_at else 0
                arguments = (
                    *places,
                    *(self._tickets_at, t_at, lr_at, found_inf_at, grad_scale_at, advance),
                    squares_at,
                )
                is_lars = norms_at is not None
                chosen = dtype_pairs, grad_scale_at != 0, write_grads, is_lars, has_extras
                self._launch(chosen, n_programs, arguments, capturing)
            self.n_captured += capturing
        return capturing

    def _launch(
        self,
        chosen: tuple[Any, ...],
        n_programs: int,
        arguments: tuple[int, ...],
        capturing: bool,
    ) -> None:
        found = self._compiled.get(chosen)
        if found is not None:
            compiled, constants = found
            compiled[n_programs, 1, 1](*arguments, *constants)
            return
        try:
            self._launch_first(chosen, n_programs, arguments)
        except Exception as error:
            if not capturing:
                raise
            raise RuntimeError(
                "the first step of its kind compiles and loads a kernel, which failed in a graph "
                f"capture ({error}): before the capture run one step with gradients of the same "
                "dtypes, with a scaler if the captured one has one"
            ) from error

    def update_captured(self, groups: bytes) -> None:
        """Let launches that graphs hold find another table of the groups."""
        with self._guard:
            self._tables.rewrite_captured(groups)

    def _launch_first(
        self, chosen: tuple[Any, ...], n_programs: int, arguments: tuple[int, ...]
    ) -> None:
        """Launch code that may not be compiled yet, and keep it: Triton looks at all of it anew
        in each launch, which takes longer than the rest of a step."""
        if len(chosen) == 2:
            jitted, n_warps, constants = norms.sum_squares, NORMS_WARPS, norm_constants_of(*chosen)
        else:
            jitted, n_warps, constants = kernel.sgd_step, NUM_WARPS, constants_of(*chosen)
        compiled = jitted[(n_programs,)](
            *arguments, **constants, num_warps=n_warps, enable_fp_fusion=False
        )
        if isinstance(compiled, CompiledKernel):  # the interpreter makes none
            self._compiled[chosen] = compiled, tuple(constants.values())


def norm_constants_of(dtype_pairs: int, scaled: bool) -> dict[str, Any]:
    """Return what the kernel of the norms is compiled for; see `constants_of`."""
    return {"DTYPES": _dtypes_of(dtype_pairs), "SCALED": scaled}


def _dtypes_of(dtype_pairs: int) -> tuple[tuple[Any, ...], ...]:
    return tuple(
        (own, grad, _TYPES[own], _TYPES[grad])
        for own in _TYPES
        for grad in _TYPES
        if dtype_pairs >> (4 * own + grad) & 1
    )


def constants_of(
    dtype_pairs: int,
    scaled: bool,
    write_grads: bool,
    lars: bool = False,
    has_extras: bool = False,
) -> dict[str, Any]:
    """Return what a kernel is compiled for, by the names and in the order of its parameters."""
    dtypes = _dtypes_of(dtype_pairs)
    bits = [type_.primitive_bitwidth for _, _, *types in dtypes for type_ in types]
    return {
        "DTYPES": dtypes,
        "SCALED": scaled,
        "WRITE_GRADS": write_grads,
        "LARS": lars,
        "EXTRAS": has_extras,
        "VECTOR": ACCESS_BYTES * 8 // max(bits, default=32),
        "BLOCK": BLOCK,
        "TAIL": TAIL,
    }


def _device_guard(device: torch.device) -> tuple[Any, int]:
    """Return a context that makes a device the current one, and its multiprocessors."""
    if device.type == "cpu":  # the interpreter, which runs programs one after another
        return nullcontext(), 1
    properties = triton.runtime.driver.active.utils.get_device_properties(device.index)
    return torch.get_device_module(device).device(device), properties["multiprocessor_count"]


def _capturing(device: torch.device) -> bool:
    """Tell whether the current stream of the current device is capturing a graph."""
    check = _capture_check(device.type)
    return check is not None and check()


@cache
def _capture_check(device_type: str) -> Callable[[], bool] | None:
    """Return what tells of a capture on a type of devices; None where it has no graphs."""
    return getattr(torch.get_device_module(device_type), "is_current_stream_capturing", None)
