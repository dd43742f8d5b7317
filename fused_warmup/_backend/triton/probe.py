"""Whether Triton can run here. Kept apart from `triton.py`, which imports Triton."""

import re
from functools import cache
from importlib import metadata
from shlex import quote

import torch

# What the CUDA build of each torch asks for, for builds that ask for none: those for CPUs.
BESIDE = {
    "2.11": "triton==3.6.0",
    "2.12": "triton==3.7.1",
    "2.13": "triton==3.7.1",
    "2.14": "triton~=3.8.0",
    "2.15": "triton~=3.9.0",
}


def triton_requirement() -> str:
    """Return what the installed torch wants as Triton, in pip's words."""
    try:
        required = metadata.requires("torch") or []
    except metadata.PackageNotFoundError:  # built in place
        required = []
    for requirement in required:
        if re.match(r"(pytorch-)?triton", requirement):
            return requirement.partition(";")[0].strip()
    release = re.match(r"\d+\.\d+", torch.__version__)
    return BESIDE.get(release[0] if release else "", "triton")


@cache
def triton_device_types() -> tuple[str, ...]:
    """Return the device types that Triton serves here: under its interpreter, the CPU alone."""
    return ("cpu",) if _interpreting() else ("cuda", "xpu")


def triton_obstacle(device: torch.device) -> str:
    """Return why Triton cannot run on a CUDA device, or ""; the bound is `torch.compile`'s."""
    capability = torch.cuda.get_device_capability(device)
    if torch.version.cuda is None or capability >= (7, 0):
        return ""
    return f"it has compute capability {capability[0]}.{capability[1]}, Triton needs 7.0"


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
            install = f"pip install {quote(triton_requirement())}"
            return f"triton is not installed: {install}", "", error
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
