"""The other instruction sets of this build: torch and the kernel change theirs together."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fused_warmup import _C

HERE = Path(__file__).parent
CURRENT = torch.backends.cpu.get_cpu_capability()
OTHERS = [name for name in _C.cpu_capabilities() if name != CURRENT]
SETUP = HERE.parents[1] / "setup.py"
CPUINFO = Path("/proc/cpuinfo")


def compiled_with() -> dict[str, set[str]]:
    """The instruction sets that setup.py lets the compiler use for each capability."""
    if not SETUP.is_file():
        pytest.skip("setup.py is not here")
    for node in ast.parse(SETUP.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CAPABILITY_FLAGS":
            flags = eval(compile(ast.Expression(node.value), SETUP.name, "eval"))
            return {
                name: {flag.removeprefix("-m") for flag in given if "=" not in flag}
                for name, given in flags.items()
            }
    raise AssertionError("setup.py has no CAPABILITY_FLAGS")


def test_every_instruction_set_is_asked_for() -> None:
    """A processor that lacks one would end in SIGILL, and none of those is at hand to try."""
    source = (SETUP.parent / "csrc" / "cpu" / "plan.cpp").read_text() if SETUP.is_file() else ""
    asked = {
        word for pair in re.findall(r'supports\("(\w+)"\)|&& has_(\w+)\(', source) for word in pair
    }
    assert asked - {""} == set().union(*compiled_with().values())


def test_capabilities_are_those_of_the_processor() -> None:
    flags = re.search(r"^flags\s*: (.*)$", CPUINFO.read_text() if CPUINFO.is_file() else "", re.M)
    if flags is None:
        pytest.skip("no x86 processor that Linux describes")
    has = set(flags[1].split())
    usable = [name for name, needed in compiled_with().items() if needed <= has]
    assert _C.cpu_capabilities() == ["DEFAULT", *usable]


@pytest.mark.parametrize("capability", OTHERS)
def test_bits_agree(capability: str) -> None:
    """The kernel, the reference and torch.optim.SGD agree to the bit there too."""
    chosen = "capability or every_option or every_size or torch_sgd or half_is or narrowing"
    names = ("cpu_capabilities", "cpu_kernel", "reference", "cpu_half")
    files = [str(HERE / f"test_{name}.py") for name in names]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [*command, *files, "-k", f"({chosen}) and not bits_agree"],
        cwd=HERE.parents[1],
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability.lower(), "EXPECTED": capability},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(ran.stdout.split(" passed")[0].split()[-1]) > 80


def test_capability_is_the_one_that_was_asked_for() -> None:
    from fused_warmup._backend.cpu import capability

    assert capability() == CURRENT == os.environ.get("EXPECTED", CURRENT)
    assert CURRENT in _C.cpu_capabilities()


def test_unknown_capability() -> None:
    none = torch.zeros((), dtype=torch.int64)
    with pytest.raises(ValueError, match="'MMX' is not in this build"):
        _C.CpuPlan("MMX", [], [], [], [], [], [], [], none, torch.zeros(0, dtype=torch.float64))
