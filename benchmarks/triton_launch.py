"""A step's host time on the Triton backend, where there is no GPU: all but the driver's own launch.

Triton compiles the kernel for an H100 and launches it by its own launcher, over a stand-in for the
driver's library that answers each call at once. Tensors lie on the CPU, so that the switch to their
device (about 2 us) is left out, too.
"""

import contextlib
import ctypes
import functools
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from fused_warmup import _backend

from . import contenders as who
from .contenders import Contender
from .results import Row, Task
from .shapes import ONE_ELEMENT
from .step import Settings, compare

CASE = "Triton's launch stubbed, 161 one-element tensors"

# What Triton's launcher calls. It wants a context, room for the kernel and a handle of it.
LIBCUDA = r"""
int cuGetErrorString(int error, const char** text) { *text = "a stand-in failed"; return 0; }
int cuDeviceGet(int* device, int i) { *device = i; return 0; }
int cuDeviceGetAttribute(int* value, int which, int device) { *value = 1 << 17; return 0; }
int cuCtxGetCurrent(void** context) { *context = (void*)8; return 0; }
int cuModuleLoadData(void** module, const void* image) { *module = (void*)8; return 0; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = (void*)8;
  return 0;
}
int cuFuncGetAttribute(int* value, int which, void* function) {
  *value = which == 0 ? 1024 : 0; /* CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK */
  return 0;
}
"""
OTHERS = (
    *("cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuFuncSetCacheConfig", "cuFuncSetAttribute"),
    *("cuCtxGetLimit", "cuCtxSetLimit", "cuTensorMapEncodeTiled", "cuTensorMapEncodeIm2col"),
    *("cuOccupancyMaxActiveClusters", "cuPointerGetAttribute", "cuLaunchKernelEx"),
    *(
        "cuCtxGetDevice",
        "cuDriverGetVersion",
        "cuModuleUnload",
        "cuStreamIsCapturing",
        "cuLaunchKernel",
    ),
)


def build_libcuda(folder: Path) -> Path:
    """Return a library that stands in for libcuda.so.1.

    Raises:
        OSError, subprocess.CalledProcessError: There is no gcc, or it failed.
    """
    source = LIBCUDA + "".join(f"int {name}(void) {{ return 0; }}\n" for name in OTHERS)
    library = folder / "libcuda.so.1"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-xc", "-", "-o", str(library)],
        input=source,
        text=True,
        check=True,
    )
    (folder / "libcuda.so").symlink_to(library.name)
    return library


class Driver:
    """What Triton asks about the GPU."""

    def __init__(self) -> None:
        from triton.backends.compiler import GPUTarget
        from triton.backends.nvidia import driver

        self._target = GPUTarget("cuda", 90, 32)
        self.launcher_cls = driver.CudaLauncher
        self.utils = driver.CudaUtils()

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def stand_in() -> Iterator[None]:
    """Let Triton find a GPU, and ``backend="cpu"`` run by Triton.

    Raises:
        ImportError: There is no Triton.
    """
    from triton.runtime.driver import driver

    from fused_warmup._backend.triton.launcher import make_triton_plan

    def make_plan(name: str, **what: Any) -> Any:
        return make_triton_plan(**what)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, TRITON_LIBCUDA_PATH=folder),
        mock.patch.dict(os.environ, TRITON_CACHE_DIR=str(Path(folder, "cache"))),
        mock.patch.object(_backend, "make_plan", make_plan),
    ):
        # Whoever asks for a library of this name afterwards gets the one that is loaded.
        ctypes.CDLL(str(build_libcuda(Path(folder))), mode=ctypes.RTLD_GLOBAL)
        with mock.patch.object(driver, "_active", None):
            driver._active = Driver()
            yield


def launch_stubbed(settings: Settings) -> Row:
    """Measure the step beside torch's fused one."""
    torch.set_num_threads(1)
    with stand_in():
        ours = Contender("ours: triton", who.ours("cpu").build)
        return compare(settings, ONE_ELEMENT, [ours, who.torch_sgd("fused")])


def in_a_process(settings: Settings) -> Row:
    """Measure where the stand-in is in nobody's way."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(launch_stubbed, settings).result()


def tasks(settings: Settings) -> list[Task]:
    """Return the case of this part; none where Triton is not installed or runs elsewhere."""
    try:
        import triton
    except ImportError:
        return []
    if triton.knobs.runtime.interpret or settings.device.type != "cpu":
        return []
    return [Task("step", CASE, functools.partial(in_a_process, settings))]
