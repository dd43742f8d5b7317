"""csrc/cuda/launcher.cpp over a stand-in for CUDA's runtime: every call fails once, in every use.

tests/support/fake_cudart has the stand-in, which checks the rules of stream capture, and the
scenarios. The launcher is the real one, and the kernel's body too; both are built with gcc's
sanitizers, so that memory which is used too late, or not given back, is an error.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import support

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "support" / "fake_cudart"
LAUNCHER = (
    "cuda/launcher",
    "cuda/device",
    "cuda/captured",
    "cuda/tables",
    "launch/tables",
    "emulation/blocks",
)
SOURCES = [*(ROOT / "csrc" / f"{name}.cpp" for name in LAUNCHER), *sorted(FAKE.glob("*.cpp"))]
SCENARIOS = re.findall(r"^ +SCENARIO\((\w+)\)", (FAKE / "scenarios.cpp").read_text(), re.MULTILINE)
# Calls that fail at least, alone and with all after them; of others 50.
FEW_FAULTS = {"old_device": 8, "missing_driver": 2, "old_driver": 2}
FLAGS = (
    *("-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
)


def cuda_headers() -> Path | None:
    """The folder of cuda_runtime_api.h: Triton's package has one."""
    spec = importlib.util.find_spec("triton")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [Path(folder, "backends/nvidia/include") for folder in folders]
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is not None:
        found.append(Path(nvcc).resolve().parent.parent / "include")
    return next((folder for folder in found if (folder / "cuda_runtime_api.h").is_file()), None)


HEADERS = cuda_headers()

pytestmark = [
    pytest.mark.skipif(HEADERS is None, reason="neither Triton nor CUDA, which have the headers"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed"),
]


def run(*command: str | Path) -> str:
    # A preloaded runtime of the sanitizers would not be this program's.
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    environment["ASAN_OPTIONS"] = "detect_leaks=1"
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=support.PATIENCE, env=environment
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that runs them."""
    folder = tmp_path_factory.mktemp("launcher")
    includes = [f"-I{path}" for path in (ROOT / "csrc", FAKE, HEADERS)]

    def compiled(source: Path) -> Path:
        target = folder / f"{source.parent.name}-{source.stem}.o"
        run("g++", *FLAGS, *includes, "-c", source, "-o", target)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, SOURCES))
    run("g++", "-fsanitize=address,undefined", *objects, "-o", folder / "scenarios")
    return folder / "scenarios"


def test_scenarios_are_all_here(scenarios: Path) -> None:
    assert run(scenarios).split() == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_call_may_fail(scenario: str, scenarios: Path) -> None:
    n_faults, what = run(scenarios, scenario).split()
    assert what == "faults"
    assert int(n_faults) >= FEW_FAULTS.get(scenario, 50)


def test_every_call_of_the_runtime_has_failed(scenarios: Path) -> None:
    text = "".join(each.read_text() for each in sorted((ROOT / "csrc" / "cuda").glob("*.*")))
    code = re.sub(r"//.*", "", text)
    called = {name.removesuffix("_v2") for name in re.findall(r"\b(cuda[A-Z]\w+)\(", code)}
    # The one finds out what failed, the other names it; of two names for a call, headers have one.
    never = {"cudaGetLastError", "cudaGetErrorName", "cudaGetErrorString"}
    struck = set(run(scenarios, "all").split())
    both = {"cudaGetDriverEntryPoint", "cudaGetDriverEntryPointByVersion"}
    assert len(both & struck) == 1
    assert called - never - both == struck - both - {"allocate"}
