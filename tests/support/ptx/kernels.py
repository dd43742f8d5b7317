"""The CUDA kernels' PTX as a library for the CPU: made once, kept in build/, called by ctypes."""

import ctypes
import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SOURCE = ROOT / "csrc" / "cuda" / "sgd.cu"
LARS_SOURCE = SOURCE.with_name("lars.cu")
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")

# -O1 compiles in a third of the time of -O2. Contraction is off, as nvcc's --fmad=false says.
CXX_FLAGS = (
    *("-std=c++17", "-O1", "-g0", "-fPIC", "-shared", "-mfma", "-ffp-contract=off"),
    *("-fno-strict-aliasing", "-fwrapv", "-fno-var-tracking"),
)


def nvcc_flags() -> list[str]:
    """Those of setup.py that concern the device's code."""
    flags = re.search(r"NVCC_FLAGS = \[(.*?)\]", (ROOT / "setup.py").read_text(), re.DOTALL)
    assert flags is not None
    return [f for f in re.findall(r'"(.*?)"', flags[1]) if f.startswith(("-std", "-O", "--fmad"))]


def build(arch: int = 80, macros: Sequence[str] = (), source: Path = SOURCE) -> Path:
    """Return the library of a source's kernels, made anew where a source or a flag has changed."""
    assert NVCC is not None
    to_ptx = [
        *(NVCC, *nvcc_flags(), f"-arch=compute_{arch}", "-ptx"),
        *(f"-I{ROOT / 'csrc'}", *(f"-D{macro}" for macro in macros), str(source)),
    ]
    read = [*(ROOT / "csrc").rglob("*.h"), source, *HERE.glob("*.py"), *HERE.glob("machine*")]
    digest = hashlib.sha256(repr((to_ptx, CXX_FLAGS)).encode())
    for path in sorted(read):
        digest.update(path.read_bytes())
    folder = ROOT / "build" / "ptx" / digest.hexdigest()[:16]
    library = folder / "kernels.so"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes run tests, too
        if not library.exists():
            ptx, translated, linked = (folder / f"kernels.{end}" for end in ("ptx", "cpp", "new"))
            subprocess.run([*to_ptx, "-o", str(ptx)], check=True)
            translate = [sys.executable, str(HERE / "translate.py"), str(ptx), str(translated)]
            subprocess.run(translate, check=True)
            sources = [str(translated), str(HERE / "machine.cpp")]
            command = ["g++", *CXX_FLAGS, f"-I{HERE}", *sources, "-o", str(linked)]
            subprocess.run(command, check=True)
            linked.rename(library)  # whole or not there, if this is interrupted
    return library


# What tells the kernels' names apart, in the order of C++'s DTypes.
NAMES = (
    *("UniformIff", "UniformINS_8bfloat16", "UniformINS_7float16"),
    *("UniformIfNS_8bfloat16", "UniformIfNS_7float16", "S0_5Mixed"),
    *("Float32WithExtras", "MixedWithExtras"),
)
LARS_NAMES = (
    *("lars_kernelINS0_7UniformIff", "lars_kernelINS0_5Mixed"),
    *("lars_kernelINS0_15MixedWithExtras", "sum_squares_kernel"),
)


class Library:
    """The kernels of one library."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.entry_name.restype = ctypes.c_char_p
        self.library.last_error.restype = ctypes.c_char_p
        found = [self.library.entry_name(i).decode() for i in range(self.library.n_entries())]
        self.entries = []
        for each in names:
            (entry,) = (i for i, name in enumerate(found) if each in name)
            self.entries.append(entry)


class Kernels:
    """The kernels of SGD and, made when first used, of LARS.

    `launch` is what EmulatedPlan.launch_with takes.
    """

    def __init__(self, library: Path) -> None:
        self._sgd = Library(library, NAMES)
        self._lars: Library | None = None
        self.n_launches = 0
        self.interleave: int | None = None
        """A seed: all blocks run at once, interleaved at random. None: one after the other."""

    def _kernel(self, name: str, dtypes: int) -> tuple[ctypes.CDLL, int]:
        """Return a kernel of the plan's by its name and the pair of dtypes, with its library."""
        if name == "sgd":
            return self._sgd.library, self._sgd.entries[dtypes]
        if self._lars is None:
            self._lars = Library(build(source=LARS_SOURCE), LARS_NAMES)
        uniform, mixed, with_extras, norms = self._lars.entries
        if name == "norms":
            return self._lars.library, norms
        extras = dtypes >= NAMES.index("Float32WithExtras")
        return self._lars.library, with_extras if extras else mixed if dtypes else uniform

    def launch(
        self,
        kernel: str,
        dtypes: int,
        order: Sequence[int],
        block_size: int,
        shared_bytes: int,
        args: bytes,
        memory: Sequence[tuple[int, int, bool]],
    ) -> None:
        """Run one launch.

        Raises:
            RuntimeError: A thread touched what it may not, or an address that is not aligned.
        """
        library, entry = self._kernel(kernel, dtypes)
        words = [int(word) for each in memory for word in each]
        ranges = (ctypes.c_uint64 * len(words))(*words)
        failed = library.launch_kernel(
            entry,
            (ctypes.c_int * len(order))(*order),
            len(order),
            block_size,
            ctypes.c_uint(shared_bytes),
            args,
            len(args),
            ranges,
            len(memory),
            self.interleave is not None,
            ctypes.c_uint64(self.interleave or 0),
        )
        self.n_launches += 1
        if failed:
            raise RuntimeError(library.last_error().decode())
