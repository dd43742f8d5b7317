"""What nvcc makes of csrc/cuda, on a machine without a GPU: resources and machine code."""

import ctypes.util
import re
import subprocess
from pathlib import Path

import pytest
from support.ptx.kernels import LARS_NAMES, NAMES, NVCC

from benchmarks.cuda_variants import machine_code
from benchmarks.gpu_checks import OUR_KERNELS

ROOT = Path(__file__).parents[2]
ARCHS = ("80", "90", "100")
KERNELS = len(NAMES)

pytestmark = pytest.mark.skipif(NVCC is None, reason="nvcc, of the cuda toolkit, is not installed")


def compile_for(arch: str, source: str, target: Path) -> str:
    """Compile with the flags of setup.py, and return the resource report."""
    flags = re.search(r"NVCC_FLAGS = \[(.*?)\]", (ROOT / "setup.py").read_text(), re.DOTALL)
    assert flags is not None
    command = [
        str(NVCC),
        *re.findall(r'"(.*?)"', flags[1]),
        f"-gencode=arch=compute_{arch},code=sm_{arch}",
        "-Xptxas=-v",
        "-c",
        f"-I{ROOT / 'csrc'}",
        str(ROOT / "csrc" / "cuda" / source),
        "-o",
        str(target),
    ]
    report = subprocess.run(command, capture_output=True, text=True)
    assert report.returncode == 0, report.stderr
    assert "warning" not in report.stderr
    return report.stderr


@pytest.fixture(scope="module", params=ARCHS)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """(architecture, resource report, object file) of SGD's kernels."""
    target = tmp_path_factory.mktemp("cuda") / f"cuda-{request.param}.o"
    return request.param, compile_for(request.param, "sgd.cu", target), target


@pytest.fixture(scope="module")
def kernels(compiled) -> dict[str, machine_code.Code]:
    """The machine code of each kernel, under the part of its name that tells it apart."""
    _, _, target = compiled
    code = machine_code.read(target)
    assert len(code) == KERNELS
    assert all(OUR_KERNELS in each.name for each in code)  # by which sanitizers find them
    return {next(name for name in NAMES if name in each.name): each for each in code}


def test_no_spills_and_no_stack(compiled) -> None:
    _, report, _ = compiled
    parts = machine_code.read_report(report)
    assert len(parts) == KERNELS
    assert [name for name, part in parts.items() if machine_code.spills(part)] == []


@pytest.mark.parametrize("arch", ARCHS)
def test_kernels_of_lars_spill_nothing(arch: str, tmp_path: Path) -> None:
    """Their threads take as many registers as those of SGD may; so many fit."""
    target = tmp_path / "lars.o"
    parts = machine_code.read_report(compile_for(arch, "lars.cu", target))
    assert len(parts) == len(LARS_NAMES)
    bounds = dict(zip(LARS_NAMES, (80, 128, 128, 128), strict=True))
    for name, part in parts.items():
        assert not machine_code.spills(part), name
        bound = next(bounds[key] for key in LARS_NAMES if key in name)
        assert machine_code.registers(part) <= bound, name
    for kernel in machine_code.read(target):
        assert OUR_KERNELS in kernel.name
        assert not any(map(machine_code.LOCAL.search, kernel.lines)), kernel.name
        assert sum(bool(machine_code.WIDE_LOAD.search(line)) for line in kernel.lines) >= 3


def test_registers_leave_room_for_the_blocks_that_hide_latency(compiled) -> None:
    """Threads of a multiprocessor share 65,536 registers: 768 fit, or 512."""
    _, report, _ = compiled
    bounds = {"Mixed": 128, "Extras": 128, "UniformI": 128, "UniformIf": 80}
    for name, part in machine_code.read_report(report).items():
        bound = min(bound for key, bound in bounds.items() if key in name)
        assert machine_code.registers(part) <= bound, name


def test_tensors_are_read_and_written_16_bytes_at_a_time(kernels) -> None:
    for name, kernel in kernels.items():
        assert not any(map(machine_code.LOCAL.search, kernel.lines)), name
        if name == "MixedWithExtras":  # an element at a time
            continue
        # parameter, gradient and momentum come in; parameter, momentum and, under AMP, the
        # gradient go out
        assert sum(bool(machine_code.WIDE_LOAD.search(line)) for line in kernel.lines) >= 3, name
        assert sum(bool(machine_code.WIDE_STORE.search(line)) for line in kernel.lines) >= 3, name


@pytest.mark.parametrize(
    ("name", "with_momentum", "without", "elements"),
    [
        # Two packs of each tensor; where a pack of gradients goes with two of the others, one.
        ("UniformIff", 6, 4, 8),
        ("UniformINS_8bfloat16", 6, 4, 16),
        ("UniformINS_7float16", 6, 4, 16),
        ("UniformIfNS_8bfloat16", 5, 3, 8),
        ("UniformIfNS_7float16", 5, 3, 8),
    ],
)
def test_all_packs_are_loaded_before_the_first_store(
    compiled, kernels, name, with_momentum, without, elements
) -> None:
    """Before anything waits for one of them, too: the compiler must keep the order."""
    loops = kernels[name].loops()
    assert [loop.loads_in_flight for loop in loops[:2]] == [with_momentum, without]
    assert loops[0].longest_turn <= 16 * elements
    for loop in loops:
        assert loop.generic == []


@pytest.mark.parametrize("compiled", ARCHS[:1], indirect=True)
def test_a_missing_driver_is_called_missing(compiled, tmp_path: Path) -> None:
    """The runtime says that its version is insufficient; the host's part is alike for each."""
    _, _, target = compiled
    if ctypes.util.find_library("cuda") is not None:
        pytest.skip("this machine has a CUDA driver")
    source, program = tmp_path / "reason.cpp", tmp_path / "reason"
    source.write_text(
        '#include <cstdio>\n#include "cuda/device.h"\n'
        "int main() { std::puts(fused_warmup::cuda::unavailable_reason().c_str()); }\n"
    )
    parts = [str(source), str(target), str(ROOT / "csrc" / "cuda" / "device.cpp")]
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
