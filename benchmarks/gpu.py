"""Proof on an NVIDIA GPU, in one command: ``python benchmarks/gpu.py --out FOLDER``.

Builds the extension, runs every test and the sanitizers, measures, and writes one flat folder:
``results.json``, ``REPORT.md``, ``log.txt`` and plots. It ends within ``--minutes``, saves after
each part, and needs no network. ``--rehearse`` goes the same way on a CPU with tiny sizes.
"""

import argparse
import gc
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: this folder holds a trace.py, as the library does
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = "benchmarks"

PARTS = ("build", "checks", "measure")
SHARES = {"build": 0.3, "checks": 0.33}  # of the whole time, at most
REPORTING = 15  # seconds kept for the report
WORKER_BROKEN = 3  # exit status: the CUDA context cannot be used any more
MAX_WORKERS = 8
STARTING = 90  # seconds that a worker may take between two cases


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.py", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder for results")
    parser.add_argument("--minutes", type=float, default=8.5, help="when to be done")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; repeatable")
    parser.add_argument("--only", default="", help="measure cases whose name holds this")
    parser.add_argument("--commit", default="", help="the commit, where git does not know it")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, on a CPU")
    parser.add_argument("--worker", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    return parser


class Log:
    """Prints, and keeps what was printed in a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._begin = path, time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def __call__(self, text: str) -> None:
        line = f"[{time.monotonic() - self._begin:5.0f} s] {text}"
        print(line, flush=True)
        with self._path.open("a") as file:
            file.write(line + "\n")


def run(options: argparse.Namespace) -> int:
    """Go through the parts; a part that fails is recorded, and the next begins."""
    from . import gpu_checks
    from .results import Results

    log = Log(options.out / "log.txt")
    end = time.monotonic() + 60 * options.minutes - REPORTING
    path = options.out / "results.json"
    results = Results.load(path) if options.part else Results(path)
    parts = options.part or list(PARTS)

    for part in parts:
        left = end - time.monotonic()
        limit = min(left, SHARES.get(part, 1.0) * 60 * options.minutes)
        log(f"{part}: {limit:.0f} s at most")
        try:
            if part == "build":
                results.add(
                    "build", "extension", gpu_checks.build(limit, rehearse=options.rehearse)
                )
            elif part == "checks":
                for name, row in gpu_checks.run_all(limit, rehearse=options.rehearse).items():
                    results.add("checks", name, row)
            else:
                forget(results, options.only)
                measure(options, limit, log)
                results = Results.load(path)
        except Exception as error:
            results = Results.load(path)
            row = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            results.add(part, "the part itself", row)
        for case, row in results.data["parts"].get(part, {}).items():
            if part != "measure":
                log(f"  {case}: {row.get('error', 'done')}")

    write_report(results, options)
    log(f"wrote {options.out}")
    print((options.out / "REPORT.md").read_text().partition("\n## Where")[0])
    return 0 if all(each["met"] for each in results.data["goals"]) else 1


def forget(results: Any, only: str) -> None:
    """Drop what an earlier run measured: what is not in the results is measured anew."""
    for part, rows in results.data["parts"].items():
        if part not in PARTS:
            for case in [case for case in rows if only in f"{part}: {case}"]:
                del rows[case]
    results.save()


class Watch:
    """Notices a hang: a case that takes three times what it needs costs itself and no other."""

    def __init__(self, path: Path) -> None:
        self._path, self._running, self._since = path, None, time.monotonic()

    def __call__(self) -> str:
        """Return why the worker is to be killed; "" if it is not."""
        from .gpu_tasks import NEEDED
        from .results import Results

        running = Results.load(self._path).data.get("running")
        if running != self._running:
            self._running, self._since = running, time.monotonic()
        limit = 3 * NEEDED.get(running[0], 5) if running else STARTING
        if time.monotonic() - self._since < limit:
            return ""
        return f"as a hang: it needs a third of {limit} s" if running else "before a case began"


def measure(options: argparse.Namespace, seconds: float, log: Log) -> None:
    """Run the measurements in a process of their own; in a new one where a CUDA error ended it."""
    from .gpu_checks import Process, tail
    from .results import Results

    end = time.monotonic() + seconds
    for attempt in range(MAX_WORKERS):
        left = end - time.monotonic()
        if left < 5:
            break
        command = [sys.executable, "-u", "-m", "benchmarks.gpu", "--worker", f"{left:.1f}"]
        command += ["--out", str(options.out.resolve()), "--only", options.only]
        command += ["--commit", options.commit, *["--rehearse"] * options.rehearse]
        worker = Process(f"worker {attempt}", command)
        worker.start()
        # A rehearsal's machine may be as slow as it likes.
        watch = str if options.rehearse else Watch(options.out / "results.json")
        row = worker.finish(end, watch)
        log(tail(worker.output))
        if row["status"] == 0:
            break
        results = Results.load(options.out / "results.json")
        running = results.data.pop("running", None)
        if running is not None and running[1] in results.data["parts"].get(running[0], {}):
            results.save()  # its row, with the error's own words, was written before the end
        elif running is not None:
            why = row.get("error", f"the process ended with status {row['status']}")
            results.add(*running, {"error": why, "output": tail(worker.output, 2000)})
        elif row["status"] != WORKER_BROKEN:
            results.add("measure", f"process {attempt}", row | {"output": tail(worker.output)})
            if row["status"] is not None and attempt:
                break


def work(options: argparse.Namespace) -> int:
    """Measure what is not in the results yet, until the time is up. Runs in the worker."""
    import torch

    from . import contenders, gpu_tasks
    from .results import Results, environment
    from .step import Settings

    end = time.monotonic() + options.worker
    results = Results.load(options.out / "results.json")
    device = torch.device("cpu" if options.rehearse else "cuda")
    settings = Settings(device, seconds=1.5)
    if options.rehearse:
        torch.set_num_threads(1)
        settings = Settings(device, seconds=0.0, quick=True, min_rounds=2)
    results.data["environment"] = environment(device)
    if options.commit:
        results.data["environment"]["commit"] = options.commit
    results.data["absent"] = contenders.everyone(device)[1]
    results.save()
    gc.freeze()  # what is imported stays: the collection before each pair need not look at it
    for task in gpu_tasks.tasks(results, settings):
        done = task.case in results.data["parts"].get(task.part, {})
        if done or options.only not in f"{task.part}: {task.case}":
            continue
        left, needed = end - time.monotonic(), gpu_tasks.NEEDED.get(task.part, 5)
        if left < needed and not options.rehearse:
            why = f"skipped: {left:.0f} s were left, a case of this part needs {needed}"
            results.add(task.part, task.case, {"error": why})
            continue
        results.data["running"] = [task.part, task.case]
        results.save()
        results.run(task)
        row = results.data["parts"][task.part][task.case]
        print(f"{task.part}: {task.case}: {row.get('error', 'done')} ({row['seconds']} s)")
        del results.data["running"]
        results.save()
        if device.type == "cuda":  # a contender's error may have ended it, too
            try:
                torch.cuda.synchronize()
            except RuntimeError as error:
                print(f"the CUDA context is dead: {error}", flush=True)
                os._exit(WORKER_BROKEN)  # destructors that meet the error again would abort
    return 0


def write_report(results: Any, options: argparse.Namespace) -> None:
    """Write the report: the goals first, then what failed among the checks, then every table."""
    from . import gpu_goals, report

    results.data["goals"] = gpu_goals.verdicts(results)
    results.save()
    first = [gpu_goals.chapter(results), *gpu_goals.failed_tests(results)]
    if options.rehearse:
        first.insert(0, "**A rehearsal on a CPU with tiny sizes: no figure here means anything.**")
    report.write(results, options.out, first)


def main(argv: list[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    if options.worker is not None:
        return work(options)
    if not options.rehearse:
        import torch

        if not torch.cuda.is_available():
            print("gpu.py needs an NVIDIA GPU; --rehearse goes the same way on a CPU")
            return 1
    return run(options)


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    sys.exit(main())
