"""Instructions that a step on the CPU takes, counted by valgrind: they repeat where times do not.

``python -m benchmarks callgrind`` counts, and compares with ``callgrind.json`` beside this file,
the record that the repository keeps; ``--update`` rewrites the record. valgrind emulates a
processor with AVX2, so the AVX2 kernel is counted. All instructions count: Python's, the binding's
and the kernel's.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from .results import ROOT
from .shapes import ONE_ELEMENT, ShapeSet

RECORD = Path(__file__).with_suffix(".json")
STEPS = 10
TOLERANCE = 0.02  # larger changes are reported; counts repeat to 0.1 %
CASES = {
    "161 x 1": ONE_ELEMENT,
    "1000 x 64": ShapeSet("1000 x 64", ((64,),) * 1000),
    "1 x 1M": ShapeSet("1 x 1M", ((1_000_000,),)),
}


# valgrind's client requests are instructions that its own header writes into the program.
REQUESTS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void stop(void) { CALLGRIND_DUMP_STATS; CALLGRIND_STOP_INSTRUMENTATION; }
"""


def count() -> dict[str, int]:
    """Return the instructions of one step for each case.

    Raises:
        RuntimeError: valgrind is not there, or failed.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise RuntimeError(
            "valgrind is not installed, and instructions are counted by it: install the package "
            "valgrind (apt-get install valgrind)"
        )
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "requests.so")
        compiler = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run(compiler, input=REQUESTS, text=True, check=True)
        # A fixed seed for hashes makes dicts, and so the counts, repeat.
        done = subprocess.run(
            [
                valgrind,
                "--tool=callgrind",
                "--instr-atstart=no",
                f"--callgrind-out-file={folder}/out",
                sys.executable,
                "-m",
                "benchmarks.callgrind_case",
                str(library),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"valgrind failed: {done.stderr[-2000:]}")
        totals = [_total(Path(folder, f"out.{i + 1}")) for i in range(2 * len(CASES))]
    steps = zip(totals[::2], totals[1::2], strict=True)
    return {
        case: round((counted - baseline) / STEPS)
        for case, (baseline, counted) in zip(CASES, steps, strict=True)
    }


def _total(path: Path) -> int:
    found = re.findall(r"^(?:totals|summary): (\d+)", path.read_text(), re.MULTILINE)
    return int(found[-1])


def versions() -> dict[str, str]:
    """Return what the counts depend on besides the code."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "compiler": subprocess.run(
            ["gcc", "-dumpfullversion"], capture_output=True, text=True
        ).stdout.strip(),
    }


def compare(now: dict[str, int], record: dict[str, Any]) -> list[str]:
    """Return a line for each case that changed by more than the tolerance."""
    lines = []
    for case, instructions in now.items():
        kept = record["instructions_a_step"].get(case)
        if kept is None:
            lines.append(f"{case}: {instructions:,} instructions a step, not in the record")
        elif abs(instructions / kept - 1) > TOLERANCE:
            change = instructions / kept - 1
            lines.append(
                f"{case}: {kept:,} -> {instructions:,} instructions a step ({change:+.1%})"
            )
    return lines


def run(*, update: bool) -> int:
    """Count, print and compare; the exit status is 1 where a count grew or shrank by over 2 %."""
    try:
        now = count()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    for case, instructions in now.items():
        print(f"{case}: {instructions:,} instructions a step")
    if update or not RECORD.is_file():
        record = {"instructions_a_step": now, "steps": STEPS, "versions": versions()}
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
        return 0
    record = json.loads(RECORD.read_text())
    if record["versions"] != versions():
        print(f"counted before with {record['versions']}, now with {versions()}")
    changes = compare(now, record)
    print("\n".join(changes) if changes else f"no change above {TOLERANCE:.0%}")
    return 1 if changes else 0
