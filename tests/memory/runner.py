"""Runs cases that may end their process, and says what became of each.

    python -m memory.runner 'between/param-*' 'threads/*'

A case is a function without arguments that raises where something is wrong. To start Python with
torch takes seconds, so one process does it once and forks; each child runs one case after another.
A child that dies is the fault of the case it was at, and a next child goes on with the one after.
A failed case is run again in a child of its own: if it passes there, one before it is to blame.
"""

import fnmatch
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

Cases = dict[str, Callable[[], None]]

WORKERS = 2
BATCH = 40  # cases in a child, so that a fork costs little
LIMIT = 900  # seconds for one case: only a deadlock takes that long, on a busy machine too

# Freed memory is overwritten, so that whoever still reads it computes with garbage. glibc does that
# to what its caches for threads do not take; gcc's address sanitizer, which knows of the kernels'
# own reads but not of libtorch's, has options of its own.
FILLED = {
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.perturb=254",
    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")
    + ":max_free_fill_size=65536:free_fill_byte=254",
}


class Child:
    """A forked process that runs cases in turn and reports each through a pipe."""

    def __init__(self, cases: Cases, names: Sequence[str]) -> None:
        self.names = list(names)
        self.at = 0  # the case that it runs
        self._output = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.pipe, theirs = connection.Pipe(duplex=False)
        self._pid = os.fork()
        if self._pid == 0:
            _serve(cases, self.names, theirs, self._output.fileno())
        theirs.close()

    def receive(self) -> str | None:
        """Return the next verdict, "" for a pass; None where the child died in the case."""
        try:
            verdict: str = self.pipe.recv()
        except EOFError:
            return None
        self.at += 1
        return verdict

    def close(self) -> str:
        """Wait for the end and tell how it came."""
        self.pipe.close()
        _, status = os.waitpid(self._pid, 0)
        how = f"exit status {os.waitstatus_to_exitcode(status)}"
        if os.WIFSIGNALED(status):
            how = signal.Signals(os.WTERMSIG(status)).name
        self._output.seek(0)
        said = self._output.read()[-6000:]
        self._output.close()
        return f"the process ended with {how}\n{said}"


def _serve(cases: Cases, names: Sequence[str], pipe: Any, output: int) -> None:
    import faulthandler

    os.dup2(output, 1)
    os.dup2(output, 2)
    for name in names:
        faulthandler.dump_traceback_later(LIMIT, exit=True, file=2)
        try:
            cases[name]()
            verdict = ""
        except BaseException:
            verdict = traceback.format_exc(limit=-6)
        faulthandler.cancel_dump_traceback_later()
        pipe.send(verdict)
    os._exit(0)


def verdicts(cases: Cases, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Run cases and yield (name, verdict) of each; "" is a pass."""
    todo = [list(names[i : i + BATCH]) for i in range(0, len(names), BATCH)]
    running: dict[Any, Child] = {}
    while todo or running:
        while todo and len(running) < WORKERS:
            child = Child(cases, todo.pop(0))
            running[child.pipe] = child
        for pipe in connection.wait(list(running)):
            child = running[pipe]
            name, verdict = child.names[child.at], child.receive()
            if verdict is None or child.at == len(child.names):
                del running[pipe]
                end = child.close()
                if verdict is None:
                    verdict = end
                    if rest := child.names[child.at + 1 :]:
                        todo.insert(0, rest)
            yield name, verdict


def _alone(cases: Cases, name: str, verdict: str) -> str:
    child = Child(cases, [name])
    again = child.receive()
    end = child.close()
    if again == "":
        return f"passes alone, but after the cases before it:\n{verdict}"
    return end if again is None else again


def load(names: Sequence[str]) -> Cases:
    """Return all cases of these modules, each named MODULE/CASE, their modules warmed up."""
    cases: Cases = {}
    for name in names:
        module = importlib.import_module(f"memory.{name}")
        module.warm_up()  # what torch imports at its first step, no child has to
        cases |= {f"{name}/{case}": run for case, run in module.CASES.items()}
    return cases


def main(patterns: Sequence[str]) -> None:
    """Print one line of JSON, [name, verdict], for each case that matches a pattern."""
    import torch

    torch.set_num_threads(1)  # a forked child cannot use its parent's OpenMP threads
    cases = load(sorted({pattern.partition("/")[0] for pattern in patterns}))
    gc.collect()
    gc.freeze()  # the cases' own collections then take microseconds
    wanted = set(patterns)
    globs = [pattern for pattern in patterns if "*" in pattern]
    names = [n for n in cases if n in wanted or any(fnmatch.fnmatch(n, p) for p in globs)]
    for name, verdict in verdicts(cases, names):
        print(json.dumps([name, verdict and _alone(cases, name, verdict)]), flush=True)


def run(names: Sequence[str]) -> dict[str, str]:
    """Run cases in a process with filled frees; return the verdict of each."""
    path = [str(Path(__file__).parent.parent), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "memory.runner"],
        input="\n".join(names),
        env={**os.environ, **FILLED, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return dict(json.loads(line) for line in done.stdout.splitlines())


if __name__ == "__main__":
    main(sys.argv[1:] or sys.stdin.read().splitlines())
