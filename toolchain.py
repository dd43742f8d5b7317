"""What setup.py builds with: found and tried before it compiles, each lack in one sentence."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from setuptools.errors import SetupError

# GPUs of 11.0 compile PTX of 10.0 for themselves, which they could not do with that of 12.0.
CUDA_ARCHS = "75;80;90;100+PTX;120"


def find_dlpack() -> Path:
    """Returns the dlpack.h of torch or apache-tvm-ffi, without importing either.

    Raises:
        SetupError: Neither is installed, or theirs lacks the C exchange API.
    """
    old = []
    for package, header in (("torch", "ATen/dlpack.h"), ("tvm_ffi", "dlpack/dlpack.h")):
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            path = Path(folder, "include", header)
            if path.is_file():
                # The version does not tell: headers had the API, as it is now, before 1.3 was out.
                if re.search(r"\bstruct DLPackExchangeAPI\b", path.read_text()):
                    return path
                old.append(f"{path} has none")
    raise SetupError(
        "dlpack.h with DLPackExchangeAPI (DLPack 1.3) is needed to build fused_warmup, but "
        + ("; ".join(old) if old else "neither torch nor apache-tvm-ffi is installed")
        + ": run `pip install 'apache-tvm-ffi>=0.1.15'`, or build with torch>=2.11 installed."
    )


# -- the C++ compiler ----------------------------------------------------------------------------

USE_GCC = "install g++ (Debian: `apt install g++`, Fedora: `dnf install gcc-c++`)"
# What the sources need of a C++ compiler, the least first: code, and what is wrong without it.
CXX_NEEDS = (
    ("inline constexpr int a = 0;", "does not compile C++17", f"{USE_GCC}, or set CXX to another"),
    (
        "#include <Python.h>",
        "finds no Python.h",
        "install the headers of Python "
        f"(Debian: `apt install python{sysconfig.get_python_version()}-dev`)",
    ),
    (
        "#include <omp.h>\nvoid probe() {\n#pragma omp parallel\n  omp_get_num_threads();\n}",
        "has no OpenMP, whose header is omp.h",
        f"{USE_GCC} and set CXX=g++",
    ),
)


def check_cxx(compiler: Sequence[str], flags: Sequence[str], folder: Path) -> None:
    """Tries the C++ compiler on a few lines.

    Args:
        compiler: The command that compiles, ``CXX`` and ``CXXFLAGS`` in it.
        flags: Flags that the sources are compiled with.
        folder: Where to.

    Raises:
        SetupError: It is missing, lacks something, or makes threads that are not torch's.
    """
    name = shlex.join(compiler[:1])
    source, obj = folder / "probe.cpp", folder / "probe.o"
    command = [*compiler, *flags, "-c", str(source), "-o", str(obj)]

    def complaint(code: str) -> str:
        source.write_text(code + "\n")
        return complaint_of(command)

    if complaint("\n".join(code for code, _, _ in CXX_NEEDS)):
        if shutil.which(compiler[0]) is None:
            raise SetupError(
                f"fused_warmup is built with a C++ compiler, but there is no {name}: {USE_GCC}, or "
                "set CXX to the one that you have."
            )
        for code, lack, remedy in CXX_NEEDS:
            if said := complaint(code):
                raise SetupError(f"The C++ compiler {name} {lack} ({said}): {remedy}.")
    # GCC calls libgomp, which is torch's own; clang and icpx call __kmpc_fork_call of libomp.
    if b"__kmpc_" in obj.read_bytes():
        raise SetupError(
            f"The C++ compiler {name} makes threads with libomp, and torch with libgomp, so that a "
            f"process would have two pools of them: {USE_GCC} and set CXX=g++."
        )


def complaint_of(command: Sequence[str]) -> str:
    """Returns one line of what a command complains of; nothing where it succeeds."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    line = (errors or lines or [f"status {done.returncode}"])[0]
    return line if len(line) <= 200 else f"{line[:200]}..."


# -- nvcc ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cuda:
    """Where nvcc is, or the reason why CUDA is left out.

    Args:
        nvcc: The compiler; None: CUDA is left out.
        reason: Why it is left out.
        demanded: Whether FUSED_WARMUP_CUDA is 1, so that it may not be left out.
    """

    nvcc: str | None
    reason: str = ""
    demanded: bool = False

    def without(self, complaint: str) -> "Cuda":
        """Returns what is built where nvcc fails.

        Raises:
            SetupError: FUSED_WARMUP_CUDA is 1.
        """
        reason = f"{self.nvcc} failed when it was built ({complaint})"
        if self.demanded:
            raise SetupError(demand(reason, REPAIR))
        return Cuda(None, reason)

    def __str__(self) -> str:
        if self.nvcc:
            return f"with CUDA, by {self.nvcc}"
        remedy = f"; to have it, {REPAIR}, and build again" if " failed " in self.reason else ""
        return f"without CUDA: {self.reason}{remedy}"


REPAIR = (
    "let nvcc compile with a g++ that it takes, as in NVCC_PREPEND_FLAGS='-ccbin g++-13', or "
    "install a CUDA toolkit that takes yours"
)


def demand(reason: str, remedy: str) -> str:
    """Returns the error of a kernel that is demanded and cannot be built."""
    return (
        f"FUSED_WARMUP_CUDA=1 demands the CUDA kernel, but {reason}: {remedy}, or unset "
        "FUSED_WARMUP_CUDA."
    )


def find_cuda(source: Path, folder: Path) -> Cuda:
    """Decides whether the CUDA kernel is built.

    Args:
        source: The kernel.
        folder: Where to compile a line to try nvcc.

    Raises:
        SetupError: FUSED_WARMUP_CUDA is "1" and the kernel cannot be built, or is no "0" or "1".
    """
    wish = os.environ.get("FUSED_WARMUP_CUDA", "")
    if wish not in ("", "0", "1"):
        raise SetupError(f"FUSED_WARMUP_CUDA={wish!r} is not understood: set it to 0 or 1.")
    if wish == "0":
        return Cuda(None, "it was built with FUSED_WARMUP_CUDA=0")
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    folders = [f"{home}/bin" for home in homes if home]
    folders += [os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(folders))
    if source.is_file() and nvcc is not None:
        cuda = Cuda(nvcc, demanded=wish == "1")
        complaint = nvcc_complaint(nvcc, folder)
        return cuda.without(complaint) if complaint else cuda
    reason = "nvcc was found neither in CUDA_HOME nor on PATH when it was built"
    if not source.is_file():
        reason = f"its source tree has no {source}"
    if wish == "1":
        raise SetupError(demand(reason, "install the CUDA toolkit and set CUDA_HOME to its folder"))
    return Cuda(None, reason)


def nvcc_complaint(nvcc: str, folder: Path) -> str:
    """Returns one line of what nvcc complains of on the least kernel: its host compiler, say."""
    source = folder / "probe.cu"
    source.write_text("__global__ void probe() {}\n")
    command = [nvcc, "-std=c++17", "-c", str(source), "-o", str(folder / "probe-cuda.o")]
    return complaint_of(command) or complaint_of([nvcc, "--list-gpu-code"])


def gencode_flags(nvcc: str) -> list[str]:
    """Returns nvcc's -gencode flags for FUSED_WARMUP_CUDA_ARCHS.

    Of the default ones, those that an older or newer nvcc does not know are left out. One is kept
    as PTX too, which other and later GPUs compile for themselves: the highest, if none is left.
    """
    wish = os.environ.get("FUSED_WARMUP_CUDA_ARCHS")
    archs = (wish or CUDA_ARCHS).split(";")
    if not wish:
        codes = subprocess.check_output([nvcc, "--list-gpu-code"], text=True).split()
        archs = [arch for arch in archs if f"sm_{arch.removesuffix('+PTX')}" in codes]
        if not any(arch.endswith("+PTX") for arch in archs):
            archs[-1:] = [f"{arch}+PTX" for arch in archs[-1:]]
    flags = []
    for arch in archs:
        number, plus, ptx = arch.partition("+")
        if not re.fullmatch(r"\d+[af]?", number) or (plus and ptx != "PTX"):
            raise SetupError(
                f"FUSED_WARMUP_CUDA_ARCHS={wish!r} is not understood at {arch!r}: write compute "
                f"capabilities without a dot, separated by semicolons, as in {CUDA_ARCHS!r}."
            )
        code = f"[sm_{number},compute_{number}]" if ptx else f"sm_{number}"
        flags.append(f"-gencode=arch=compute_{number},code={code}")
    return flags


def cuda_flags(nvcc: str, kind: str) -> list[str]:
    """Returns the INCLUDES (-I) or LIBRARIES (-L) of nvcc itself, wherever its toolkit lies."""
    dry_run = [nvcc, "--dryrun", "-x", "cu", "-c", os.devnull]
    lines = subprocess.run(dry_run, capture_output=True, text=True, check=True).stderr
    found = re.search(rf"^#\$ {kind}=(.*)$", lines, re.MULTILINE)
    return shlex.split(found[1]) if found else []
