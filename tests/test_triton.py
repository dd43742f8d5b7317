"""The Triton backend without a GPU: in Triton's interpreter, and what it says without Triton."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fused_warmup
from fused_warmup.backend import triton_probe

INTERPRETED = Path(__file__).parent / "triton_interpreter"
KERNELS = Path(fused_warmup.__file__).parent / "backend"


def test_kernel_equals_the_reference_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"),
            *("--override-ini", "python_files=interpreted_*.py", str(INTERPRETED)),
        ],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^\d+ passed in", run.stdout, re.MULTILINE), run.stdout


@pytest.mark.parametrize("name", ["triton_kernel.py", "triton_schedule.py"])
def test_a_constant_follows_the_tensor_that_it_meets(name: str) -> None:
    """From Triton 3.7 on the interpreter lets a constexpr on the left swallow the tensor."""
    tree = ast.parse((KERNELS / name).read_text())
    constants = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and "tl.constexpr" in ast.unparse(node.value):
            constants |= {n.id for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)}
        if isinstance(node, ast.ImportFrom):
            constants |= {alias.name for alias in node.names if alias.name.isupper()}
    assert constants

    def is_constant(node: ast.AST) -> bool:
        if isinstance(node, ast.BinOp):
            return is_constant(node.left) and is_constant(node.right)
        return isinstance(node, ast.Constant) or (
            isinstance(node, ast.Name) and node.id in constants
        )

    swallowed = []
    for node in ast.walk(tree):
        sides = []
        if isinstance(node, ast.BinOp):
            sides = [node.left, node.right]
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        named = sides and any(isinstance(n, ast.Name) for n in ast.walk(sides[0]))
        if named and is_constant(sides[0]) and not all(map(is_constant, sides[1:])):
            swallowed.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    assert not swallowed


def test_probe_says_how_to_get_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    obstacle, _, error = triton_probe.probe_triton()
    assert obstacle == "triton is not installed: pip install triton==3.6.0"
    assert isinstance(error, ImportError)


def test_probe_says_what_an_installed_triton_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "triton.py").write_text("import a_missing_module")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    obstacle, _, error = triton_probe.probe_triton()
    assert obstacle == "triton does not import (No module named 'a_missing_module')"
    assert isinstance(error, ImportError)
