"""What an attached schedule adds to a step of one element: ``pytest benchmarks --benchmark-only``.

The bound is 8 us of host time on top of the step alone, where the native kernel serves the device.
"""

from functools import partial
from typing import Any

import pytest
import torch

import fused_warmup
from benchmarks import rates
from benchmarks.bench_step import one_thread  # noqa: F401

MAKERS = {
    "AdamW(fused=True)": partial(torch.optim.AdamW, fused=True),
    "RMSprop": torch.optim.RMSprop,
}
DRIVERS = ("alone", "attach", "LambdaLR")


@pytest.mark.parametrize("n_groups", [1, 4])
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", MAKERS)
def bench_attach(benchmark: Any, name: str, driver: str, n_groups: int) -> None:
    benchmark.group = f"{name}, {n_groups} groups"
    groups = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(n_groups)]
    for group in groups:
        group["params"][0].grad = torch.ones(1)
    optimizer = MAKERS[name](groups, lr=0.1)
    if driver == "attach":
        fused_warmup.attach(optimizer, rates.schedule())
    scheduler = rates.scheduler("LambdaLR", optimizer) if driver == "LambdaLR" else None

    def step() -> None:
        optimizer.step()
        if scheduler is not None:
            scheduler.step()

    step()
    benchmark(step)
