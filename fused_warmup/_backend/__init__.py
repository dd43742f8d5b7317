"""Which kernels this installation has, and why not the others.

A backend is a class with the interface of `reference.ReferencePlan`: built for the
parameters of one device, it is asked each step to ``prepare`` (read everything, touch nothing) and
then to ``launch``. To add one, write that class and name it in `make_plan`, `device_types`
and `_probe` below.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from .._advice import advise
from .native import load_native
from .triton.probe import probe_triton, triton_device_types, triton_obstacle

BACKENDS = ("cuda", "triton", "cpu", "reference")
KERNELS = {"cpu": ("cpu",), "cuda": ("cuda", "triton"), "xpu": ("triton",)}
"""The backends with a kernel for each device type, the one to take first."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Whether a backend can run here, and the reason.

    Attributes:
        name: ``"cuda"``, ``"triton"``, ``"cpu"`` or ``"reference"``.
        available: Whether it can run on this machine.
        reason: One line: what was found, or what is missing and how to get it.
        error: What the attempt to load it raised, where it raised.
    """

    name: str
    available: bool
    reason: str
    error: Exception | None = None


def backends() -> dict[str, Backend]:
    """Return every backend by name, with its state on this machine and the reason for it.

    Example:
        >>> import fused_warmup
        >>> fused_warmup.backends()["reference"].available
        True
    """
    return {name: _probe(name) for name in BACKENDS}


def require(name: str) -> Backend:
    """Return the backend called ``name``.

    Raises:
        ValueError: There is no backend of that name.
        RuntimeError: It cannot run here; the original error is its cause.
    """
    if name not in BACKENDS:
        raise ValueError(
            f"backend={name!r} is unknown, it must be one of {', '.join(map(repr, BACKENDS))}: "
            "pass one of these, or None to let each parameter's device decide"
        )
    backend = _probe(name)
    if not backend.available:
        raise RuntimeError(
            f"backend={name!r} cannot run here, {backend.reason}: "
            "pass backend=None to use what is there"
        ) from backend.error
    return backend


def kernel_of(device: torch.device) -> str | None:
    """Return the backend whose kernel serves a device; None: no kernel does."""
    for name in KERNELS.get(device.type, ()):
        served = device.type in (device_types(name) or (device.type,))
        if served and _probe(name).available and not device_obstacle(name, device):
            return name
    return None


def default_backend(device: torch.device) -> str:
    """Return the backend that serves a device when none is asked for.

    Warns once where that is the reference.
    """
    kernel = kernel_of(device)
    if kernel is None and device.type != "meta":  # where nothing is computed
        _warn_of_reference(device)
    return kernel or "reference"


@cache
def _warn_of_reference(device: torch.device) -> None:
    reasons = []
    for name in KERNELS.get(device.type, ()):
        found = _probe(name)
        obstacle = device_obstacle(name, device) if found.available else ""
        reasons.append(f"{name}: {obstacle or found.reason}")
    where = device if device.type == "cuda" else device.type  # GPUs differ, one by one
    advise(
        f"parameters on {where} are updated by plain PyTorch, backend 'reference', which is "
        f"slower than a kernel ({'; '.join(reasons) or 'none is for this device'}): `fused-warmup "
        "doctor` says more, and SGD(..., backend='reference') takes it without this warning"
    )


@cache
def device_obstacle(name: str, device: torch.device) -> str:
    """Return why a backend that is here cannot run on one device of its types; "" if it can.

    A machine may hold GPUs of several generations.
    """
    if device.type != "cuda" or name not in ("cuda", "triton"):
        return ""
    if name == "triton":
        return triton_obstacle(device)
    native, _ = load_native()
    if native is None:
        return "the native extension did not load"
    index = torch.cuda.current_device() if device.index is None else device.index
    return str(native.cuda_device_obstacle(index))


def make_plan(name: str, **what: Any) -> Any:
    """Build a backend's plan for one device; the arguments are those of `ReferencePlan`."""
    if name == "cpu":
        from .cpu import make_cpu_plan

        return make_cpu_plan(**what)
    if name == "cuda":
        from .cuda import make_cuda_plan

        return make_cuda_plan(**what)
    if name == "triton":
        from .triton.launcher import make_triton_plan

        return make_triton_plan(**what)
    from .reference import ReferencePlan

    return ReferencePlan(**what)


def device_types(name: str) -> tuple[str, ...] | None:
    """Return the device types that a backend serves; None: all of them."""
    if name == "triton":
        return triton_device_types()
    return {"cpu": ("cpu",), "cuda": ("cuda",), "reference": None}[name]


@cache
def _probe(name: str) -> Backend:
    if name == "reference":
        return Backend(name, True, f"plain PyTorch {torch.__version__}, any device")
    if name == "triton":
        obstacle, found, error = probe_triton()
        return Backend(name, not obstacle, obstacle or found, error)
    native, error = load_native()
    if native is None:
        return Backend(name, False, f"the native extension did not load ({error})", error)
    if name == "cpu":
        from .cpu import capability

        return Backend(name, True, f"native kernel for {capability()}")
    obstacle = native.cuda_unavailable_reason()
    if not obstacle and torch.version.cuda is None:  # for CPUs or AMD: no tensor is CUDA's
        obstacle = f"torch {torch.__version__} is built without CUDA"
    return Backend(name, not obstacle, obstacle or "native CUDA kernel")
