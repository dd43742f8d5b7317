"""Accelerate: prepare, accumulate, save and load."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from twins import OPTIONS, SCHEDULE, assert_same, build, data, model


def prepare(fused: bool, **options: Any) -> tuple[Any, ...]:
    AcceleratorState._reset_state(True)  # one Accelerator a process, but for its own tests
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True, **options)
    net = model()
    opt, scheduler = build(net, fused)
    loader = DataLoader(data(), batch_size=8)
    return accelerator, *accelerator.prepare(net, opt, scheduler, loader)


def epoch(accelerator: Any, net: Any, opt: Any, scheduler: Any, loader: Any) -> list[float]:
    rates = []
    for x, y in loader:
        with accelerator.accumulate(net):
            accelerator.backward(cross_entropy(net(x), y))
            opt.step()
            scheduler.step()
            opt.zero_grad()
        rates += scheduler.get_last_lr()
    return rates


@pytest.mark.parametrize(
    "options", [{}, {"gradient_accumulation_steps": 2}, {"mixed_precision": "bf16"}]
)
def test_is_torchs_run(options: dict[str, Any]) -> None:
    ours = prepare(True, **options)
    rates = epoch(*ours) + epoch(*ours)
    theirs = prepare(False, **options)
    assert rates == epoch(*theirs) + epoch(*theirs)
    assert_same(ours[1], theirs[1])


def test_saves_and_loads(tmp_path: Path) -> None:
    run = prepare(True)
    epoch(*run)
    run[0].save_state(str(tmp_path))
    expected = epoch(*run)
    other = prepare(True)
    other[0].load_state(str(tmp_path))
    assert epoch(*other) == expected
    assert expected[-1] == OPTIONS["lr"] * SCHEDULE(16)
    assert torch.equal(other[1][0].weight, run[1][0].weight)
