"""The other instruction sets of this build: torch and the kernel change theirs together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fused_warmup import _C

HERE = Path(__file__).parent
CURRENT = torch.backends.cpu.get_cpu_capability()
OTHERS = [name for name in _C.cpu_capabilities() if name != CURRENT]


@pytest.mark.parametrize("capability", OTHERS)
def test_bits_agree(capability: str) -> None:
    """The kernel, the reference and torch.optim.SGD agree to the bit there too."""
    chosen = "capability or every_option or every_size or torch_sgd or half_is or narrowing"
    names = ("cpu_capabilities", "cpu_kernel", "reference", "cpu_half")
    files = [str(HERE / f"test_{name}.py") for name in names]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, *files, "-k", f"({chosen}) and not bits_agree"],
        cwd=HERE.parent,
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability.lower(), "EXPECTED": capability},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(ran.stdout.split(" passed")[0].split()[-1]) > 80


def test_capability_is_the_one_that_was_asked_for() -> None:
    from fused_warmup.backend.cpu import capability

    assert capability() == CURRENT == os.environ.get("EXPECTED", CURRENT)
    assert CURRENT in _C.cpu_capabilities()


def test_unknown_capability() -> None:
    none = torch.zeros((), dtype=torch.int64)
    with pytest.raises(ValueError, match="'MMX' is not in this build"):
        _C.CpuPlan("MMX", [], [], [], [], [], [], none, torch.zeros(0, dtype=torch.float64))
