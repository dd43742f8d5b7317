"""Builds the extension module fused_warmup._C: C++17, pybind11 and OpenMP, but never torch.

Tensors come in through DLPack, so one build serves every torch release. Environment variables:

* ``FUSED_WARMUP_CUDA``: ``1`` demands the CUDA kernel, ``0`` leaves it out; by default it is built
  where nvcc is found (``$CUDA_HOME/bin``, ``$CUDA_PATH/bin``, ``PATH``, ``/usr/local/cuda/bin``).
* ``FUSED_WARMUP_CUDA_ARCHS``: compute capabilities as ``"80;90;100+PTX"``.
* ``FUSED_WARMUP_REPOSITORY``: the address that README's links lead to on a package index, such as
  ``https://github.com/OWNER/fused_warmup``.
* ``FUSED_WARMUP_SANITIZE``: gcc's sanitizers to build with, as ``"address,undefined"``.
* ``CXX``, ``CXXFLAGS``, ``LDFLAGS``: as everywhere.
"""

import hashlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, SetupError

sys.path.insert(0, str(Path(__file__).parent))  # pip does not put it there
from toolchain import (
    Cuda,
    check_cxx,
    cuda_flags,
    find_cuda,
    find_dlpack,
    gencode_flags,
)

CSRC = Path("csrc")
CPU_KERNELS = [CSRC / "cpu" / "kernel.cpp", CSRC / "cpu" / "norms.cpp"]
CUDA_KERNEL = CSRC / "cuda" / "sgd.cu"
CUDA_KERNELS = [CUDA_KERNEL, CSRC / "cuda" / "lars.cu"]
NEEDS_CUDA = {CSRC / "cuda" / f"{name}.cpp" for name in ("captured", "device", "launcher", "plan")}

# Contraction is off on every processor: a fused multiply-add that one compiler forms and another
# does not would make the backends differ in the last bit.
CXX_FLAGS = [
    "-std=c++17",
    "-O3",
    "-fopenmp",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
]
NVCC_FLAGS = [
    "-std=c++17",
    "-O3",
    "--fmad=false",
    "--cudart=static",
    "--threads=2",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off",
]
CUDART = ["-lcudart_static", "-ldl", "-lrt", "-lpthread"]

# CPU_KERNELS are compiled once for each of these, besides the baseline; cpu/plan.cpp chooses.
CAPABILITY_FLAGS = {
    "AVX2": ["-mavx2", "-mfma", "-mf16c"],
    "AVX512": [
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx2", "-mfma", "-mf16c"),
        "-mprefer-vector-width=512",
    ],
}


def name_of(source: Path) -> str:
    """Names a source's object files, with its folder: two folders may have files of one name."""
    return "-".join(source.relative_to(CSRC).with_suffix("").parts)


@dataclass(frozen=True)
class Job:
    """One object file: its source and the command that makes it."""

    source: Path
    obj: Path
    command: list[str]

    @classmethod
    def make(cls, source: Path, name: str, command: list[str], objects: Path) -> "Job":
        """Names the object after its command, so that other flags make another object."""
        digest = hashlib.sha256(shlex.join(command).encode()).hexdigest()[:8]
        obj = objects / f"{name}-{digest}.o"
        return cls(source, obj, [*command, "-c", str(source), "-o", str(obj)])

    def run(self, headers: list[Path]) -> bool:
        """Compiles, unless the object is newer than its source and every header.

        Returns:
            Whether the object is there.
        """
        newest = max(path.stat().st_mtime for path in (self.source, *headers))
        if self.obj.exists() and self.obj.stat().st_mtime >= newest:
            return True
        sys.stdout.write(f"compiling {self.source} to {self.obj.name}\n")  # one write: threads
        if subprocess.run(self.command, check=False).returncode == 0:
            return True
        self.obj.unlink(missing_ok=True)
        return False


class BuildExt(build_ext):
    """Compiles every source with its own flags, as many at once as there are cores."""

    def build_extension(self, ext: Extension) -> None:
        """Compiles what has changed and links it."""
        if self.compiler.compiler_type != "unix":
            raise SetupError(
                f"The compiler type {self.compiler.compiler_type!r} is not supported: build with "
                "g++, on Linux."
            )
        objects = Path(self.build_temp)
        if self.editable_mode:  # setuptools would take a new folder each time
            objects = Path("build", f"temp.{self.plat_name}-{sys.implementation.cache_tag}")
        objects = objects.absolute()  # its path is part of the commands that name the objects
        objects.mkdir(parents=True, exist_ok=True)

        includes = [f"-I{folder}" for folder in self.include_dirs]
        check_cxx(self.compiler.compiler_so_cxx, [*includes, *CXX_FLAGS[:3]], objects)
        cuda = find_cuda(CUDA_KERNEL, objects)
        print(f"fused_warmup is built {cuda}.", flush=True)
        forwarding = self.write_forwarding_header(objects / "include")
        headers = [*sorted(CSRC.rglob("*.h")), forwarding]
        jobs = [*self.cxx_jobs(objects, cuda), *self.cuda_jobs(objects, cuda)]
        failed = self.compile(jobs, headers)
        if failed and all(job.source in {*CUDA_KERNELS, *NEEDS_CUDA} for job in failed):
            cuda = cuda.without(f"{failed[0].source} did not compile")
            print(f"fused_warmup is built {cuda}.", flush=True)
            jobs = self.cxx_jobs(objects, cuda)
            failed = self.compile(jobs, headers)
        if failed:
            commands = "; ".join(f"{job.source} with {shlex.join(job.command)}" for job in failed)
            raise CompileError(f"did not compile: {commands}")

        output = Path(self.get_ext_fullpath(ext.name))
        output.unlink(missing_ok=True)  # the linker would keep one that is newer than its objects
        # The baseline objects come first: where two objects hold the same inline function, the
        # linker takes the first, and that one must run on every processor.
        self.compiler.link_shared_object(
            [str(job.obj) for job in jobs],
            str(output),
            extra_postargs=[*self.link_flags(), *self.cuda_link_flags(cuda)],
            target_lang="c++",
        )

    def compile(self, jobs: list[Job], headers: list[Path]) -> list[Job]:
        """Makes the objects; returns the jobs that failed."""
        with ThreadPool(self.parallel or os.cpu_count()) as pool:
            # The GPU kernel takes longest, so it starts first.
            done = pool.map(lambda job: job.run(headers), reversed(jobs), chunksize=1)
        return [job for job, succeeded in zip(reversed(jobs), done, strict=True) if not succeeded]

    def write_forwarding_header(self, folder: Path) -> Path:
        """Makes the dlpack.h that was found includable as <dlpack/dlpack.h>."""
        header = folder / "dlpack" / "dlpack.h"
        text = f'#include "{find_dlpack()}"\n'
        header.parent.mkdir(parents=True, exist_ok=True)
        if not header.is_file() or header.read_text() != text:
            header.write_text(text)
        return header

    def cxx_jobs(self, objects: Path, cuda: Cuda) -> list[Job]:
        """Returns what the C++ compiler makes: the baseline, then each CPU capability."""
        capabilities = CAPABILITY_FLAGS if self.plat_name.endswith(("x86_64", "amd64")) else {}
        reason = cuda.reason.replace("\\", "\\\\").replace('"', '\\"')
        macros = [f"-DHAVE_{name}" for name in capabilities]
        macros.append("-DWITH_CUDA" if cuda.nvcc else f'-DFUSED_WARMUP_NO_CUDA_REASON="{reason}"')
        includes = [CSRC, pybind11.get_include(), *self.include_dirs]
        command = [
            *self.compiler.compiler_so_cxx,
            *(f"-I{folder}" for folder in includes),
            f"-I{objects / 'include'}",
            *CXX_FLAGS,
            *self.sanitizer_flags(),
        ]
        if cuda.nvcc:
            command += cuda_flags(cuda.nvcc, "INCLUDES")
        left_out = {*CPU_KERNELS} if cuda.nvcc else {*CPU_KERNELS, *NEEDS_CUDA}
        sources = sorted(set(CSRC.rglob("*.cpp")) - left_out)
        jobs = [Job.make(path, name_of(path), [*command, *macros], objects) for path in sources]
        for name, flags in {"DEFAULT": [], **capabilities}.items():
            kernel = [*command, *flags, f"-DCPU_CAPABILITY={name}"]
            jobs += [Job.make(k, f"{name_of(k)}-{name}", kernel, objects) for k in CPU_KERNELS]
        return jobs

    def cuda_jobs(self, objects: Path, cuda: Cuda) -> list[Job]:
        """Returns what nvcc makes, if there is one."""
        if cuda.nvcc is None:
            return []
        command = [cuda.nvcc, f"-I{CSRC}", *NVCC_FLAGS, *gencode_flags(cuda.nvcc)]
        return [Job.make(kernel, name_of(kernel), command, objects) for kernel in CUDA_KERNELS]

    def link_flags(self) -> list[str]:
        """Returns what every build links with."""
        return ["-fopenmp", *self.sanitizer_flags()]

    def cuda_link_flags(self, cuda: Cuda) -> list[str]:
        """Returns what links cudart in, out of sight of the copy that torch may bring."""
        if cuda.nvcc is None:
            return []
        return [*cuda_flags(cuda.nvcc, "LIBRARIES"), *CUDART, "-Wl,--exclude-libs,ALL"]

    def sanitizer_flags(self) -> list[str]:
        """Returns the flags of FUSED_WARMUP_SANITIZE."""
        sanitizers = os.environ.get("FUSED_WARMUP_SANITIZE")
        if not sanitizers:
            return ["-g0"]
        # vptr compares type names across libraries, which hidden symbols make unequal.
        return [
            f"-fsanitize={sanitizers}",
            *("-fno-sanitize=vptr", "-fno-sanitize-recover=all"),
            "-fno-wrapv",  # Python's own flag would make an integer's overflow no fault
            # A report names lines; all of -g would take a third more time to compile.
            *("-fno-omit-frame-pointer", "-g1", "-O1"),
        ]


def readme() -> str:
    """Returns README for a package index, which has none of the files that its links lead to.

    They lead to FUSED_WARMUP_REPOSITORY at this version's tag; where that is not set, links become
    plain text and pictures are left out.
    """
    package = Path("fused_warmup/__init__.py").read_text()
    version = re.search(r'^__version__ = "(.+)"', package, re.MULTILINE)[1]
    repository = os.environ.get("FUSED_WARMUP_REPOSITORY", "").rstrip("/")

    def absolute(link: re.Match[str]) -> str:
        picture, text, target = link.groups()
        if not repository:
            return "" if picture else text
        return f"{picture}[{text}]({repository}/{'raw' if picture else 'blob'}/v{version}/{target})"

    relative_link = r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)\s]+)\)"
    return re.sub(relative_link, absolute, Path("README.md").read_text())


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    ext_modules=[Extension("fused_warmup._C", sorted(map(str, CSRC.rglob("*.cpp"))))],
    cmdclass={"build_ext": BuildExt},
)
