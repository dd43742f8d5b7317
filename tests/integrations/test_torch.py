"""torch.compile about the step, and its label in torch.profiler."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from twins import assert_same, build, data, model


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    rows = data()
    return [
        (torch.stack([x for x, _ in part]), torch.stack([y for _, y in part]))
        for part in (rows[i : i + 8] for i in range(0, 64, 8))
    ]


@pytest.mark.parametrize("whole", [False, True], ids=["the model", "the whole step"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_is_torchs_run(backend: str, whole: bool) -> None:
    torch._dynamo.reset()
    net, twin = model(), model()
    ours, theirs = build(net, True), build(twin, False)

    def step(net: Any, opt: Any, scheduler: Any, x: Any, y: Any) -> None:
        opt.zero_grad()
        cross_entropy(net(x), y).backward()
        opt.step()
        scheduler.step()

    compiled = torch.compile(step, backend=backend) if whole else step
    forward = net if whole else torch.compile(net, backend=backend)
    for x, y in batches():
        compiled(forward, *ours, x, y)
        step(twin, *theirs, x, y)
    assert_same(net, twin)
    assert ours[0].steps_applied == 8  # type: ignore[attr-defined]


def test_the_profiler_shows_each_step_once() -> None:
    net = model()
    opt, scheduler = build(net, True)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for x, y in batches()[:3]:
            cross_entropy(net(x), y).backward()
            opt.step()
            scheduler.step()
    labels = [event.name for event in profiled.events() if "Optimizer.step" in event.name]
    assert labels == ["Optimizer.step#SGD.step"] * 3
