"""What comes before measuring on a GPU: the build, the tests, and the sanitizers, as processes."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .results import ROOT, Row

WORK = ROOT / "build" / "gpu"
GPU_TESTS = ("tests/gpu",)
# All but those of other libraries, which declare operators of torchvision that may be there, and
# the rehearsal of what is going on: it would write over this run's files.
OTHER_TESTS = (
    "tests",
    *(f"--ignore={path}" for path in (*GPU_TESTS, "tests/integrations")),
    "--deselect=tests/house/test_benchmarks.py::test_rehearsal_goes_through_every_part",
    "--continue-on-collection-errors",  # a package that is missing costs its own tests alone
)
# What the sanitizers, which slow kernels down, watch: every way in which the kernels reach memory.
# Of tests of two backends, those whose names end in "cuda]"; of averages and LARS, those at odd
# addresses. 3,200 groups would take minutes.
SANITIZED_TESTS = ("cuda", "graphs", "averages", "lars")
SANITIZED = (
    "not triton] and not steady and not more_groups and (groups or strides or skipped or "
    "written_back or move or current_stream or more_tensors or two_graphs or outlives or "
    "update_captured or norms or 1-cuda])"
)
OUR_KERNELS = "fused_warmup"  # in the mangled name of each: their namespace
SANITIZER_FOLDERS = "/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer:/opt/cuda/bin"


@dataclass
class Process:
    """A command that runs beside others, its output going to a file.

    Attributes:
        name: Of the check.
        command: What runs in the repository's root.
        env: Variables to set.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        return WORK / f"{self.name.replace(' ', '-')}.txt"

    def start(self) -> None:
        WORK.mkdir(parents=True, exist_ok=True)
        with self.output.open("w") as out:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, **self.env},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._begin = time.monotonic()

    def finish(self, deadline: float, watch: Callable[[], str] = str) -> Row:
        """Wait until the deadline at most, kill what is left, and return what can be said of any.

        Only this process's own group is killed; also as soon as ``watch``, which is asked each
        second, gives a reason.
        """
        why = ""
        while True:
            try:
                left = deadline - time.monotonic()
                status: int | None = self._process.wait(min(max(left, 0.1), 1.0))
                break
            except subprocess.TimeoutExpired:
                why = watch() or ("when its time was up" if time.monotonic() >= deadline else "")
            if why:
                os.killpg(self._process.pid, 9)
                self._process.wait()
                status = None
                break
        row: Row = {"status": status, "seconds": round(time.monotonic() - self._begin, 1)}
        if status is None:
            row["error"] = f"stopped after {row['seconds']:.0f} s, {why}"
        return row


def together(processes: Sequence[Process], seconds: float) -> dict[str, Row]:
    """Run processes side by side and return a row for each."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.start()
    return {process.name: process.finish(deadline) for process in processes}


# -- the build -----------------------------------------------------------------------------------


def build_env(*, rehearse: bool) -> dict[str, str]:
    """Return the variables that make a build one for the GPU at hand; in a rehearsal, for none."""
    if rehearse:
        return {"FUSED_WARMUP_CUDA": "0"}
    import torch

    major, minor = torch.cuda.get_device_capability()
    return {"FUSED_WARMUP_CUDA": "1", "FUSED_WARMUP_CUDA_ARCHS": f"{major}{minor}"}


def build(seconds: float, *, rehearse: bool) -> Row:
    """Build the extension in place, with CUDA, for the GPU at hand.

    A rehearsal takes the extension that is there, for a build takes minutes; where there is none,
    it builds without CUDA.
    """
    if rehearse and any((ROOT / "fused_warmup").glob("_C.*.so")):
        return {"status": 0, "note": "a rehearsal does not build again what is there"}
    env = build_env(rehearse=rehearse)
    build_ext = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    # Metadata beside the sources makes the version known without installing anything.
    dist_info = [sys.executable, "setup.py", "-q", "dist_info", "--output-dir", str(WORK)]
    deadline = time.monotonic() + seconds
    build = Process("build", build_ext, env)
    row = together([build], seconds)["build"]
    row |= {"env": env, "output": tail(build.output)}
    if row["status"] != 0:
        row.setdefault("error", f"the build failed: {row['output'][-1500:]}")
        return row
    row["metadata"] = together([Process("metadata", dist_info)], deadline - time.monotonic())
    return row


def tail(path: Path, characters: int = 6000) -> str:
    return path.read_text(errors="replace")[-characters:]


# -- the tests -----------------------------------------------------------------------------------


def pytest(
    name: str,
    arguments: Sequence[str],
    prefix: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    limit: int = 0,
) -> Process:
    """Return a run of pytest whose results `outcomes` can read, even if it does not end.

    Many run side by side: threads of each for every core would wait for one another. A test that
    takes longer than ``limit`` seconds ends its process, and pytest-xdist begins another. Warnings
    are kept and are no errors: torch may give one on a GPU in every test.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    if limit and importlib.util.find_spec("pytest_timeout"):
        # By a thread, which ends the process: a signal waits for the device to answer.
        arguments = [*arguments, f"--timeout={limit}", "--timeout-method=thread"]
    report = WORK / f"{name.replace(' ', '-')}.xml"
    report.unlink(missing_ok=True)
    command = [
        *prefix,
        *(sys.executable, "-m", "pytest", "-o", "addopts=--strict-markers", "-v"),
        *("-W", "default", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments),
    ]
    path = [str(WORK), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = str(max(2, (os.cpu_count() or 1) // 8))
    own = {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": threads}
    return Process(name, command, {**own, **(env or {})})


def outcomes(process: Process, row: Row) -> Row:
    """Add to a row how many tests passed, failed, were skipped, which did, and their warnings."""
    report = WORK / f"{process.name.replace(' ', '-')}.xml"
    text = process.output.read_text(errors="replace")
    warned = re.search(r"^=+ warnings summary .*?\n(.*?)^(?:-- Docs:|=)", text, re.M | re.S)
    row["warnings"] = warned[1][:2000] if warned else ""
    if report.is_file():
        cases = list(ElementTree.parse(report).iter("testcase"))
        bad = {"failure": [], "error": [], "skipped": []}
        for case in cases:
            for kind, found in bad.items():
                for child in case.findall(kind):
                    where = f"{case.get('classname')}::{case.get('name')}: "
                    message = (child.get("message") or "")[:300]
                    found.append(message if kind == "skipped" else where + message)
        row["failed"] = bad["failure"] + bad["error"]
        row["skipped"] = bad["skipped"]
        row["passed"] = len(cases) - len(row["failed"]) - len(row["skipped"])
    else:
        row["passed"] = len(re.findall(r"\bPASSED\b", text))
        row["failed"] = re.findall(r"^.*\b(?:FAILED|ERROR)\b.*$", text, re.MULTILINE)
        row["skipped"] = re.findall(r"^.*\bSKIPPED\b.*$", text, re.MULTILINE)
    row["n_failed"], row["n_skipped"] = len(row["failed"]), len(row["skipped"])
    row["skipped"] = dict(Counter(row["skipped"]))
    row["failed"] = row["failed"][:40]
    if row["n_failed"] or row["status"]:
        row["output"] = tail(process.output)
        if not row["passed"] + row["n_failed"]:
            words = row["output"].strip().splitlines()[-1:]
            row.setdefault("error", f"no test ran, status {row['status']}: {' '.join(words)}")
    return row


# -- the sanitizers ------------------------------------------------------------------------------


def find_sanitizer() -> str | None:
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), SANITIZER_FOLDERS])
    return shutil.which("compute-sanitizer", path=folders)


def sanitizer(tool: str, program: str) -> Process:
    """Return a run of some GPU tests under a tool of compute-sanitizer.

    It watches our kernels alone; torch's are not what is tested and would take most of the time.
    """
    prefix = [program, "--tool", tool, "--target-processes", "all"]
    prefix += ["--kernel-name", f"kernel_substring={OUR_KERNELS}", "--report-api-errors", "no"]
    files = [f"tests/gpu/test_gpu_{name}.py" for name in SANITIZED_TESTS]
    return pytest(tool, [*files, "-k", SANITIZED], prefix)


def findings(process: Process, row: Row) -> Row:
    """Add what a sanitizer found; it says so only in its output."""
    text = process.output.read_text(errors="replace")
    summaries = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", text)
    row["summaries"] = len(summaries)
    row["findings"] = sum(map(int, summaries))
    if row["findings"] or not summaries:
        row["output"] = tail(process.output)
    if "error" not in row:
        if "Device not supported" in text:
            row["error"] = "compute-sanitizer does not support this machine's GPU"
        elif not summaries:
            row["error"] = "compute-sanitizer ended without a summary"
        elif not row.get("passed"):
            row["error"] = "no test passed under compute-sanitizer"
    return row


def run_all(seconds: float, *, rehearse: bool) -> dict[str, Row]:
    """Run the GPU tests, all other tests and the sanitizers side by side: nothing is timed yet."""
    mine, others = list(GPU_TESTS), list(OTHER_TESTS)
    cores = os.cpu_count() or 1
    if rehearse:
        others = ["tests/schedules/test_schedule_segment.py"]
    elif importlib.util.find_spec("xdist"):
        # One at least: a process that a test has broken is replaced.
        mine += ["-n", "3" if cores >= 8 else "1"]
        # By file: what a module's tests share, a wheel or a kernel compiled thrice, is made once.
        others += ["-n", str(max(1, cores // 2)), "--dist", "loadfile"]
    # Tests that build do so for this GPU, with the objects that are there.
    tests = [
        pytest("GPU tests", mine, limit=60),
        pytest("other tests", others, env=build_env(rehearse=rehearse), limit=120),
    ]
    program = find_sanitizer()
    sanitizers = [sanitizer(tool, program) for tool in ("memcheck", "racecheck")] if program else []
    rows = together([*tests, *sanitizers], seconds)
    for process in [*tests, *sanitizers]:
        outcomes(process, rows[process.name])
    for process in sanitizers:
        findings(process, rows[process.name])
    if program is None:
        missing: dict[str, Any] = {"error": "compute-sanitizer was not found on this machine"}
        rows |= {"memcheck": missing, "racecheck": dict(missing)}
    return rows
