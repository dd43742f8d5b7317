"""pytest-benchmark's view of one step: ``pytest benchmarks --benchmark-only``.

Contenders are compared in turns, and so better, by ``python -m benchmarks``.
"""

from typing import Any

import pytest
import torch

from benchmarks import contenders, shapes

CPU = torch.device("cpu")
CONTENDERS = [
    *(contenders.ours(name) for name in contenders.our_backends(CPU)[0]),
    contenders.torch_sgd("fused"),
    contenders.torch_sgd("foreach"),
]
SETS = [shapes.ONE_ELEMENT, shapes.RESNET50, shapes.MANY_SMALL]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda each: each.name)
@pytest.mark.parametrize("shape_set", SETS, ids=lambda each: each.name)
def bench_step(benchmark: Any, shape_set: Any, contender: Any) -> None:
    if shape_set.n_tensors > contender.max_tensors:
        pytest.skip("takes too long")
    benchmark.group = f"step, {shape_set.name}"
    step = contender.build(shape_set.make(CPU))
    step()
    benchmark(step)
