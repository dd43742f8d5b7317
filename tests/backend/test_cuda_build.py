"""What nvcc makes of csrc/cuda, on a machine without a GPU: resources and machine code."""

import ctypes.util
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHS = ("80", "90", "100")
KERNELS = 4  # float32, bfloat16, float16, mixed
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")

pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc, of the cuda toolkit, is not installed")


@pytest.fixture(scope="module", params=ARCHS)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """(architecture, resource report, object file) with the flags of setup.py."""
    flags = re.search(r"NVCC_FLAGS = \[(.*?)\]", (ROOT / "setup.py").read_text(), re.DOTALL)
    assert flags is not None
    target = tmp_path_factory.mktemp("cuda") / f"cuda-{request.param}.o"
    command = [
        str(NVCC),
        *re.findall(r'"(.*?)"', flags[1]),
        f"-gencode=arch=compute_{request.param},code=sm_{request.param}",
        "-Xptxas=-v",
        "-c",
        f"-I{ROOT / 'csrc'}",
        str(ROOT / "csrc" / "cuda" / "sgd.cu"),
        "-o",
        str(target),
    ]
    report = subprocess.run(command, capture_output=True, text=True)
    assert report.returncode == 0, report.stderr
    assert "warning" not in report.stderr
    return request.param, report.stderr, target


def kernel_reports(report: str) -> dict[str, str]:
    """The part of ptxas's report that belongs to each entry function."""
    parts = re.split(r"Compiling entry function '", report)[1:]
    return {part.split("'")[0]: part for part in parts}


def test_no_spills_and_no_stack(compiled) -> None:
    _, report, _ = compiled
    kernels = kernel_reports(report)
    assert len(kernels) == KERNELS
    for name, part in kernels.items():
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in part, name
        assert "bytes cumulative stack size" not in part, name


def test_registers_leave_room_for_the_blocks_that_hide_latency(compiled) -> None:
    _, report, _ = compiled
    bounds = {"Mixed": 128, "bfloat16": 80, "float16": 80, "Iff": 64}
    for name, part in kernel_reports(report).items():
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        assert registers <= next(bound for key, bound in bounds.items() if key in name), name


def test_tensors_are_read_and_written_16_bytes_at_a_time(compiled) -> None:
    _, _, target = compiled
    triton = importlib.util.find_spec("triton")
    assert triton is not None
    tool = Path(triton.submodule_search_locations[0], "backends/nvidia/bin/cuobjdump")
    listing = subprocess.run([tool, "-sass", target], capture_output=True, text=True, check=True)
    functions = re.split(r"Function : ", listing.stdout)[1:]
    assert len(functions) == KERNELS
    for function in functions:
        name = function.split(maxsplit=1)[0]
        # parameter, gradient and momentum come in; parameter, momentum and, under AMP, the
        # gradient go out
        assert len(re.findall(r"\bLDG?\.E\.128", function)) >= 3, name
        assert len(re.findall(r"\bSTG?\.E\.128", function)) >= 3, name
        assert not re.search(r"\b(LDL|STL)\b", function), name


def test_a_missing_driver_is_called_missing(compiled, tmp_path: Path) -> None:
    """The runtime says that its version is insufficient."""
    arch, _, target = compiled
    if arch != ARCHS[0]:
        pytest.skip("the host's part is the same for each architecture")
    if ctypes.util.find_library("cuda") is not None:
        pytest.skip("this machine has a CUDA driver")
    source, program = tmp_path / "reason.cpp", tmp_path / "reason"
    source.write_text(
        '#include <cstdio>\n#include "cuda/launcher.h"\n'
        "int main() { std::puts(fused_warmup::cuda::unavailable_reason().c_str()); }\n"
    )
    ours = ("cuda/captured.cpp", "cuda/launcher.cpp", "cuda/tables.cpp", "launch/tables.cpp")
    parts = [str(source), str(target), *(str(ROOT / "csrc" / name) for name in ours)]
    command = [str(NVCC), "-std=c++17", f"-I{ROOT / 'csrc'}", *parts, "-o", str(program)]
    linked = subprocess.run(command, capture_output=True, text=True)
    assert linked.returncode == 0, linked.stderr
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert said == "no CUDA driver\n"


@pytest.mark.parametrize("arch", ["75", "120"])
def test_the_other_architectures_of_a_wheel_compile(arch: str, tmp_path: Path) -> None:
    """To PTX: what ptxas makes of it is looked at above, for three of them."""
    known = subprocess.check_output([str(NVCC), "--list-gpu-code"], text=True).split()
    if f"sm_{arch}" not in known:
        pytest.skip(f"this nvcc does not know sm_{arch}")
    source, target = ROOT / "csrc" / "cuda" / "sgd.cu", tmp_path / "sgd.ptx"
    command = [str(NVCC), "-std=c++17", f"-arch=compute_{arch}", "-ptx", f"-I{ROOT / 'csrc'}"]
    compiled = subprocess.run([*command, source, "-o", target], capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    assert target.read_text().count(".entry") == KERNELS
