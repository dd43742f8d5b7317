"""Real processes for tests: a gloo group on the loopback interface, kept from test to test.

Starting a process means importing torch, which takes seconds; a pool does it once. Whatever a rank
does has a time limit: past it the parent kills all of them, so no test can hang.
"""

import atexit
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from support import PATIENCE


def _serve(rank: int, size: int, store: str, pipe: Connection) -> None:
    os.setpgid(0, 0)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=PATIENCE),
    )
    pipe.send((True, None))
    while (task := pipe.recv()) is not None:
        function, arguments = task
        try:
            torch.manual_seed(0)
            answer = True, function(*arguments)
        except BaseException:
            answer = False, traceback.format_exc()
        pipe.send(answer)
    dist.destroy_process_group()


class Pool:
    """A process group of ``size`` ranks that runs functions.

    Args:
        size: The number of ranks.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        for rank in range(self.size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, self.size, store, theirs), daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        self._collect(PATIENCE)

    def __call__(
        self, function: Callable[..., Any], *arguments: Any, limit: float = PATIENCE
    ) -> list[Any]:
        """Run ``function(*arguments)`` on every rank and return what each returned.

        Raises:
            AssertionError: A rank failed or took longer than ``limit`` seconds; the message holds
                its traceback, and the ranks are gone.
        """
        if not self._processes:
            self._start()
        for pipe in self._pipes:
            pipe.send((function, arguments))
        return self._collect(limit)

    def _collect(self, limit: float) -> list[Any]:
        deadline = time.monotonic() + limit
        answers: list[Any] = [None] * self.size
        waiting, failures = set(range(self.size)), []
        # Once a rank has failed, the others may wait for it in a collective: they get a second.
        while waiting and time.monotonic() < deadline:
            for rank in sorted(waiting):
                if not self._pipes[rank].poll(0.002):
                    continue
                waiting.discard(rank)
                try:
                    good, answers[rank] = self._pipes[rank].recv()
                except EOFError:
                    good, answers[rank] = False, "the process died"
                if not good:
                    failures.append(f"rank {rank}: {answers[rank]}")
                    deadline = min(deadline, time.monotonic() + 1)
        if waiting and not failures:
            failures.append(f"no answer from ranks {sorted(waiting)} within {limit} s")
        if failures:
            self.close(kill=True)
            raise AssertionError("\n".join(failures))
        return answers

    def close(self, kill: bool = False) -> None:
        """End the ranks; the next call starts new ones."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            if not kill and process.is_alive():
                pipe.send(None)
        for process in self._processes:
            process.join(0 if kill else 10)
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
        for pipe in self._pipes:
            pipe.close()
        if self._processes:
            self._folder.cleanup()
        self._processes, self._pipes = [], []


@cache
def ranks(size: int) -> Pool:
    """Return the pool of ``size`` ranks that all tests share."""
    pool = Pool(size)
    atexit.register(pool.close)
    return pool
