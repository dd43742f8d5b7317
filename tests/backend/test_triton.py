"""The Triton backend without a GPU: in Triton's interpreter, and what it says without Triton."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

import fused_warmup
from fused_warmup._backend.triton import probe as triton_probe

INTERPRETED = Path(__file__).parent / "triton_interpreter"
KERNELS = Path(fused_warmup.__file__).parent / "_backend" / "triton"


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


@pytest.mark.parametrize(
    "name",
    [
        *("kernel.py", "update.py", "extras.py", "rates.py", "line.py", "schedule.py"),
        *("lars.py", "norms.py"),
    ],
)
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


@pytest.mark.parametrize(
    ("required", "version", "install"),
    [
        (["jinja2", 'triton==3.7.1; platform_system == "Linux"'], "2.12.1", "triton==3.7.1"),
        (["triton~=3.8.0"], "2.14.1+cu130", "'triton~=3.8.0'"),
        (["triton-rocm==3.7.1; extra == 'x'"], "2.13.0+rocm7.1", "triton-rocm==3.7.1"),
        (["pytorch-triton-xpu==3.6.0"], "2.11.0+xpu", "pytorch-triton-xpu==3.6.0"),
        (["jinja2"], "2.11.0+cpu", "triton==3.6.0"),
        (["opt-einsum>=3.3; extra == 'triton'"], "2.13.0+cpu", "triton==3.7.1"),
        (None, "2.15.0a0+git1234", "'triton~=3.9.0'"),
        (None, "9.9.9", "triton"),
        (PackageNotFoundError("torch"), "2.14.0", "'triton~=3.8.0'"),
    ],
    ids=str,
)
def test_probe_says_how_to_get_the_triton_that_torch_asks_for(
    monkeypatch: pytest.MonkeyPatch, required: object, version: str, install: str
) -> None:
    def requires(name: str) -> object:
        if isinstance(required, Exception):
            raise required
        return required

    monkeypatch.setattr(triton_probe.metadata, "requires", requires)
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setitem(sys.modules, "triton", None)
    obstacle, _, error = triton_probe.probe_triton()
    assert obstacle == f"triton is not installed: pip install {install}"
    assert isinstance(error, ImportError)


def test_a_torch_that_asks_for_none_gets_what_its_other_build_asks_for() -> None:
    """The table is right about this torch, if it knows it."""
    release = ".".join(torch.__version__.split(".")[:2])
    if release in triton_probe.BESIDE:
        asked, known = triton_probe.triton_requirement(), triton_probe.BESIDE[release]
        minor = re.compile(r"\d+\.\d+")  # torch 2.12.0 asks for 3.7.0, 2.12.1 for 3.7.1
        assert minor.findall(asked) == minor.findall(known)


def test_probe_says_what_an_installed_triton_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "triton.py").write_text("import a_missing_module")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    obstacle, _, error = triton_probe.probe_triton()
    assert obstacle == "triton does not import (No module named 'a_missing_module')"
    assert isinstance(error, ImportError)
