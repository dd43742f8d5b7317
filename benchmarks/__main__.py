"""The one front of all measurements: ``python -m benchmarks --help``, or ``make bench``."""

import argparse
import gc
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from . import (
    callgrind,
    check,
    contenders,
    front,
    layerwise,
    model,
    pipelines,
    report,
    scaling,
    step,
    triton_launch,
)
from .results import Results, Task, environment
from .step import Settings

PARTS = ("step", "pipelines", "model", "scaling", "compiled")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        default="measure",
        choices=["measure", "check", "report", "callgrind"],
        help="measure everything; check the goals on a CPU; write the report of saved results "
        "again; or count the CPU kernel's instructions",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a rehearsal, no figures")
    parser.add_argument("--only", default="", help="parts or cases whose name holds this")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder for results")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--seconds", type=float, default=6.0, help="for the rounds of a case")
    parser.add_argument("--update", action="store_true", help="callgrind: keep the new counts")
    return parser


def tasks(settings: Settings) -> list[Task]:
    """Return everything that is measured on a device."""
    found = [
        *step.tasks(settings),
        *triton_launch.tasks(settings),
        *pipelines.tasks(settings),
        *layerwise.tasks(settings),
        *model.tasks(settings),
        *scaling.tasks(settings),
    ]
    return found if settings.quick else [*found, step.compiled_task(settings)]


def measure(settings: Settings, out: Path, only: str) -> int:
    """Run the tasks, saving after each; 1 if one failed."""
    results = Results(out / "results.json")
    results.data["environment"] = environment(settings.device)
    results.data["absent"] = contenders.everyone(settings.device)[1]
    for name, reason in results.data["absent"].items():
        print(f"left out: {name}: {reason}")
    chosen = [task for task in tasks(settings) if only in f"{task.part}: {task.case}"]
    if not chosen:
        raise SystemExit(f"--only {only!r} matches no part or case: the parts are {PARTS}")
    begin = time.monotonic()
    failed = []
    bar = tqdm(chosen, unit="case")
    for task in bar:
        bar.set_description(f"{task.part}: {task.case}")
        # What is imported by now stays: the collection before each pair need not look at it.
        gc.freeze()
        if not results.run(task):
            failed.append(task)
    gc.unfreeze()
    print(f"{len(chosen) - len(failed)} cases in {time.monotonic() - begin:.0f} s")
    report.write(results, out)
    front.write(results, out)
    print((out / "REPORT.md").read_text())
    for task in failed:
        print(results.data["parts"][task.part][task.case]["traceback"], file=sys.stderr)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    torch.set_num_threads(options.threads)
    settings = Settings(torch.device(options.device), options.seconds, options.quick)
    if options.quick:
        settings = Settings(settings.device, 0.0, quick=True, min_rounds=2)
    if options.command == "check":
        results = Results(options.out / "check.json")
        results.data["environment"] = environment(settings.device)
        return check.run(results, settings, options.only)
    if options.command == "report":
        saved = Results.load(options.out / "results.json")
        report.write(saved, options.out)
        front.write(saved, options.out)
        return 0
    if options.command == "callgrind":
        return callgrind.run(update=options.update)
    return measure(settings, options.out, options.only)


if __name__ == "__main__":
    sys.exit(main())
