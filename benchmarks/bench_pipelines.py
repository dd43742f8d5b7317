"""pytest-benchmark's view of AMP around a step: ``pytest benchmarks --benchmark-only``."""

from typing import Any

import pytest
import torch

from benchmarks import pipelines, shapes
from benchmarks.bench_step import one_thread  # noqa: F401

CONTENDERS = [
    pipelines.amp(kind, clip=clip) for clip in (False, True) for kind in ("ours", "fused")
]


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda each: each.name)
def bench_amp(benchmark: Any, contender: Any) -> None:
    benchmark.group = contender.name.partition(": ")[2]
    step = contender.build(shapes.RESNET50.make(torch.device("cpu")))
    step()
    benchmark(step)
