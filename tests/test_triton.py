"""The Triton backend without a GPU: in Triton's interpreter, and what it says without Triton."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fused_warmup.backend import triton_probe

INTERPRETED = Path(__file__).parent / "triton_interpreter"


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
