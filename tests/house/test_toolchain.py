"""What the build says of compilers that are missing, lack something, or reject one another."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "toolchain.py"
pytestmark = pytest.mark.skipif(not TOOLS.is_file(), reason="setup.py and its tools are not here")

# Writes what it is told to its output, unless the source has what it does not know.
COMPILER = """#!{python}
import sys
from pathlib import Path

arguments = sys.argv[1:]
if arguments == ["--list-gpu-code"]:
    sys.exit(print("sm_80"))
if "--dryrun" in arguments:
    sys.exit()
if "-shared" in arguments:
    Path(arguments[arguments.index("-o") + 1]).write_bytes(b"linked")
    sys.exit()
source = Path(arguments[arguments.index("-c") + 1])
for unknown, complaint in {unknown!r}.items():
    if unknown in source.read_text() or unknown == source.name:
        sys.exit(f"In file included from x:\\n{{source}}:1: error: {{complaint}}\\nstopped")
Path(arguments[arguments.index("-o") + 1]).write_bytes({output!r})
"""


def put(folder: Path, name: str, unknown: dict[str, str], output: bytes = b"GOMP_parallel") -> None:
    folder.mkdir(exist_ok=True)
    text = COMPILER.format(python=sys.executable, unknown=unknown, output=output)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def build(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Build with the compilers in ``folder / "bin"`` and no other."""
    keep = {k: v for k, v in os.environ.items() if k not in ("CXX", "CXXFLAGS", "CUDA_HOME")}
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", f"-t{folder / 'temp'}", f"-b{folder / 'lib'}"],
        cwd=ROOT,
        env={**keep, "CUDA_PATH": str(folder), "PATH": str(folder / "bin"), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0, done.stdout
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("cxx", ["g++", "clang++", "ccache g++"])
def test_no_compiler(tmp_path: Path, cxx: str) -> None:
    error = said(build(tmp_path, CXX=cxx))
    assert f"there is no {shlex.split(cxx)[0]}" in error
    assert "apt install g++" in error
    assert "CXX" in error


LACKS = {
    "inline constexpr": ("inline variables are C++17", "does not compile C++17", "apt install g++"),
    "Python.h": ("Python.h: No such file or directory", "finds no Python.h", "apt install python3"),
    "omp.h": ("'omp.h' file not found", "has no OpenMP", "set CXX=g++"),
    "#pragma omp": ("libgomp.spec: no such file", "has no OpenMP", "set CXX=g++"),
}


@pytest.mark.parametrize("unknown", LACKS)
def test_a_compiler_that_lacks_something(tmp_path: Path, unknown: str) -> None:
    complaint, lack, remedy = LACKS[unknown]
    put(tmp_path / "bin", "g++", {unknown: complaint})
    error = said(build(tmp_path, CXX="g++"))
    assert lack in error
    assert complaint in error
    assert remedy in error
    assert not list((tmp_path / "temp").glob("bindings*"))


def test_a_compiler_that_brings_other_threads_than_torchs(tmp_path: Path) -> None:
    put(tmp_path / "bin", "clang++", {}, b"\0__kmpc_fork_call\0")
    error = said(build(tmp_path, CXX="clang++"))
    assert "clang++ makes threads with libomp" in error
    assert "CXX=g++" in error


NVCC_FAILS = {
    "host compiler": {"__global__": "#error -- unsupported GNU version! gcc versions later than"},
    "the kernel": {"sgd.cu": "identifier __nv_bfloat16 is undefined"},
}


@pytest.mark.parametrize("unknown", NVCC_FAILS.values(), ids=NVCC_FAILS)
def test_an_nvcc_that_fails(tmp_path: Path, unknown: dict[str, str]) -> None:
    """It is left out, with the reason in what is built, unless it is demanded."""
    put(tmp_path / "bin", "g++", {})
    put(tmp_path / "bin", "nvcc", unknown)
    done = build(tmp_path, CXX="g++")
    assert done.returncode == 0, done.stderr
    summary = done.stdout[done.stdout.rindex("fused_warmup is built without CUDA") :]
    assert f"{tmp_path / 'bin' / 'nvcc'} failed when it was built (" in summary
    assert "NVCC_PREPEND_FLAGS='-ccbin" in summary
    if "sgd.cu" in unknown:
        assert "csrc/cuda/sgd.cu did not compile" in summary
    else:
        assert "unsupported GNU version" in summary
    assert len(list((tmp_path / "lib").rglob("_C*"))) == 1

    demanded = said(build(tmp_path, CXX="g++", FUSED_WARMUP_CUDA="1"))
    assert "FUSED_WARMUP_CUDA=1 demands the CUDA kernel, but" in demanded
    assert "unset FUSED_WARMUP_CUDA" in demanded


def test_a_source_that_does_not_compile_is_an_error_with_nvcc_or_without(tmp_path: Path) -> None:
    put(tmp_path / "bin", "g++", {"bindings.cpp": "expected ';'"})
    put(tmp_path / "bin", "nvcc", {"sgd.cu": "expected ';'"})
    for wish in ("", "0"):
        error = said(build(tmp_path, CXX="g++", FUSED_WARMUP_CUDA=wish))
        assert re.search(r"did not compile: .*csrc/bindings.cpp with g\+\+ ", error)


def test_an_nvcc_that_works_is_used(tmp_path: Path) -> None:
    put(tmp_path / "bin", "g++", {})
    put(tmp_path / "bin", "nvcc", {})
    done = build(tmp_path, CXX="g++")
    assert done.returncode == 0, done.stderr
    assert f"built with CUDA, by {tmp_path / 'bin' / 'nvcc'}" in done.stdout


@pytest.mark.parametrize(
    ("known", "codes"),
    [
        ("75 80 90 100 103 110 120 121", ["75", "80", "90", "100 PTX", "120"]),
        ("70 75 80 86 89 90", ["75", "80", "90 PTX"]),  # CUDA 12.6
        ("80", ["80 PTX"]),
    ],
)
def test_ptx_is_for_gpus_between_those_with_kernels_of_their_own_too(
    known: str, codes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FUSED_WARMUP_CUDA_ARCHS", raising=False)
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\nfor code in {known}; do echo sm_$code; done\n")
    nvcc.chmod(0o755)
    script = "import sys, toolchain; print(*toolchain.gencode_flags(sys.argv[1]))"
    found = subprocess.run(
        [sys.executable, "-c", script, nvcc], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert found == [
        f"-gencode=arch=compute_{number},code="
        + (f"[sm_{number},compute_{number}]" if ptx else f"sm_{number}")
        for number, _, ptx in (code.partition(" ") for code in codes)
    ]
