"""Attached schedules on a GPU: no sync in a step, graphs that replay the right rate."""

from functools import partial
from typing import Any

import pytest
import torch
from support.gpu_cases import NEEDS_GPU, TRAINING, captured, parameters, syncs_are_errors

from fused_warmup import _backend as kernels
from fused_warmup import attach

MAKERS = {
    "AdamW-fused": partial(torch.optim.AdamW, fused=True),
    "AdamW-capturable": partial(torch.optim.AdamW, capturable=True),
    "NAdam-capturable": partial(torch.optim.NAdam, capturable=True),
}

pytestmark = [
    *NEEDS_GPU,
    pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS),
    pytest.mark.parametrize("backend", ["cuda", "triton"]),
]


@pytest.fixture(autouse=True)
def one_backend(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "kernel_of", lambda device: backend)


def test_a_step_waits_for_nothing(make: Any) -> None:
    optimizer = make(parameters(sizes=(65, 5003)), lr=0.1)
    handle = attach(optimizer, TRAINING)
    optimizer.step()
    torch.cuda.synchronize()
    with syncs_are_errors():
        for _ in range(3):
            optimizer.step()
    assert handle.steps_applied == 4
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.1 * TRAINING(3), rel=1e-6)


def test_replays_have_the_rate_of_their_step(make: Any) -> None:
    optimizer = make(parameters(sizes=(65, 5003)), lr=0.1)
    handle = attach(optimizer, TRAINING)
    graph = captured(optimizer.step, 3)
    before = handle.steps_applied
    for i in range(20):
        graph.replay()
        t = before + i
        assert handle.steps_applied == t + 1
        assert handle.get_last_lr() == pytest.approx([0.1 * TRAINING(t)], rel=1e-12)
        # Of a float32.
        held = optimizer.param_groups[0]["lr"]
        assert float(held) == pytest.approx(0.1 * TRAINING(t), rel=1e-6)
    optimizer.param_groups[0]["initial_lr"] = 0.4
    handle.update_captured()
    graph.replay()
    assert handle.get_last_lr() == pytest.approx([0.4 * TRAINING(before + 20)], rel=1e-12)
