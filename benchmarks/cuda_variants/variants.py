"""The variants: values for the macros of csrc/cuda/tuning.h, and how each is compiled."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
HERE = Path(__file__).parent
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
# Those of setup.py that decide what the kernels compute.
NVCC_FLAGS = ("-std=c++17", "-O3", "--fmad=false", f"-I{CSRC}")
HOST_SOURCES = (HERE / "variant.cpp", CSRC / "cuda" / "tables.cpp", CSRC / "launch" / "tables.cpp")


@dataclass(frozen=True, eq=False)  # a key of dicts, which its macros are not
class Variant:
    """A build of the kernels.

    Attributes:
        name: As tables call it.
        macros: Those of tuning.h that differ from the default.
    """

    name: str
    macros: dict[str, int] = field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        return [f"-DFW_{name}={value}" for name, value in self.macros.items()]


VARIANTS = (
    Variant("as built"),
    Variant("blocks of 128", {"BLOCK_SIZE": 128}),
    Variant("blocks of 512", {"BLOCK_SIZE": 512, "MIN_THREADS": 512}),
    Variant("64 registers", {"MIN_THREADS": 1024}),
    Variant("1 pack in flight", {"PACKS_IN_FLIGHT": 1, "MIN_THREADS": 1024}),
    Variant("4 packs in flight", {"PACKS_IN_FLIGHT": 4, "MIN_THREADS": 512}),
    Variant("2 shares a resident block", {"WAVES": 2}),
    Variant("4 shares a resident block", {"WAVES": 4}),
    Variant("streaming hints", {"STREAMING": 1}),
    Variant("a share a block", {"SHARE_THREADS": 256}),
    Variant("small shares", {"MIN_SHARE": 128}),
    Variant("large shares", {"MIN_SHARE": 2048}),
)


def compile_cubin(variant: Variant, arch: int, target: Path) -> str:
    """Compile the kernels for one architecture; return ptxas's report."""
    assert NVCC is not None
    command = [
        *(NVCC, *NVCC_FLAGS, *variant.flags, "-Xptxas=-v", "-cubin"),
        *(f"-gencode=arch=compute_{arch},code=sm_{arch}", str(CSRC / "cuda" / "sgd.cu")),
        *("-o", str(target)),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def compile_host(variant: Variant, target: Path) -> None:
    """Compile what lays a launch out, for a launch by other means."""
    sources = map(str, HOST_SOURCES)
    flags = ("-std=c++17", "-O1", "-fPIC", "-shared", f"-I{CSRC}", *variant.flags)
    subprocess.run(["g++", *flags, *sources, "-o", str(target)], check=True)


def compile_library(variant: Variant, arch: int, target: Path) -> None:
    """Compile all of it for a GPU."""
    assert NVCC is not None
    sources = [*HOST_SOURCES, HERE / "launch.cu", CSRC / "cuda" / "sgd.cu"]
    command = [
        *(NVCC, *NVCC_FLAGS, *variant.flags, "-shared", "-Xcompiler=-fPIC", "--cudart=static"),
        *(f"-gencode=arch=compute_{arch},code=sm_{arch}", *map(str, sources), "-o", str(target)),
    ]
    subprocess.run(command, check=True)
