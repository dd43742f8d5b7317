"""What a run found, in one JSON file that is written anew after each task."""

import contextlib
import gc
import json
import platform
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import fused_warmup

ROOT = Path(__file__).resolve().parent.parent
Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One measurement.

    Attributes:
        part: Which part of the report it belongs to.
        case: What is measured.
        run: Measures, and returns plain data.
    """

    part: str
    case: str
    run: Callable[[], Row]


@dataclass
class Results:
    """Rows by part and case, and where they were measured.

    Attributes:
        path: The JSON file.
        data: ``{"environment": {...}, "parts": {part: {case: row}}, "log": [...]}``.
    """

    path: Path
    data: dict[str, Any] = field(default_factory=lambda: {"environment": {}, "parts": {}})

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read a file, or begin an empty one."""
        return cls(path, json.loads(path.read_text())) if path.is_file() else cls(path)

    def add(self, part: str, case: str, row: Row) -> None:
        """Keep a row, and save all."""
        self.data["parts"].setdefault(part, {})[case] = row
        self.save()

    def save(self) -> None:
        """Write the file; a reader sees the old one or the new one, never half of one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.data, indent=1) + "\n")
        partial.replace(self.path)

    def rows(self, part: str) -> dict[str, Row]:
        """Return the rows of a part that were measured, failures left out."""
        rows = self.data["parts"].get(part, {})
        return {case: row for case, row in rows.items() if "error" not in row}

    def run(self, task: Task) -> bool:
        """Run a task and keep its row, or the traceback if it fails."""
        begin = time.perf_counter()
        try:
            row = task.run()
        except Exception as error:
            row = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        row["seconds"] = round(time.perf_counter() - begin, 2)
        self.add(task.part, task.case, row)
        gc.collect()
        if torch.cuda.is_available():
            with contextlib.suppress(RuntimeError):  # a dead context's, which the caller looks for
                torch.cuda.empty_cache()
        return "error" not in row


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({type(error).__name__})"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def commit() -> str:
    """Return the commit that is measured, with a mark where files differ from it."""
    head = _output("git", "rev-parse", "HEAD")
    dirty = _output("git", "status", "--porcelain", "--untracked-files=no")
    return head if head.startswith("unknown") or not dirty else f"{head} with changes"


def environment(device: torch.device) -> dict[str, Any]:
    """Return all that a figure depends on."""
    try:
        import triton

        triton_version = triton.__version__
    except ImportError:
        triton_version = "none"
    found: dict[str, Any] = {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "fused_warmup": fused_warmup.__version__,
        "backends": {name: each.reason for name, each in fused_warmup.backends().items()},
        "torch": torch.__version__,
        "triton": triton_version,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": _processor(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": properties.L2_cache_size,
            "cuda": torch.version.cuda,
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        }
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
