"""Whether Triton can run here. Kept apart from `triton.py`, which imports Triton."""

from functools import cache

import torch

INSTALL = "pip install triton==3.6.0"


@cache
def triton_device_types() -> tuple[str, ...]:
    """Return the device types that Triton serves here: under its interpreter, the CPU alone."""
    return ("cpu",) if _interpreting() else ("cuda", "xpu")


def _interpreting() -> bool:
    try:
        import triton
    except ImportError:
        return False
    return bool(triton.knobs.runtime.interpret)


def probe_triton() -> tuple[str, str, Exception | None]:
    """Return what is in the way ("" for nothing), what was found, and the error if any."""
    try:
        import triton
    except ImportError as error:
        if error.name == "triton":
            return f"triton is not installed: {INSTALL}", "", error
        return f"triton does not import ({error})", "", error  # its interpreter wants NumPy
    version = f"Triton {triton.__version__}"
    if _interpreting():
        return "", f"{version}'s interpreter, on the CPU (TRITON_INTERPRET is set)", None
    if not (torch.cuda.is_available() or torch.xpu.is_available()):
        return f"{version} finds no GPU that it supports", "", None
    try:
        target = triton.runtime.driver.active.get_current_target()
    except Exception as error:
        return f"{version} cannot launch on this GPU ({error})", "", error
    return "", f"{version} for {target.backend} {target.arch}", None
