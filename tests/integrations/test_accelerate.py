"""Accelerate: prepare, accumulate, save and load."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch.utils.data import DataLoader
from twins import OPTIONS, SCHEDULE, accelerated_epoch, assert_same, build, data, model


def prepare(fused: bool, **options: Any) -> tuple[Any, ...]:
    AcceleratorState._reset_state(True)  # one Accelerator a process, but for its own tests
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True, **options)
    net = model()
    opt, scheduler = build(net, fused)
    loader = DataLoader(data(), batch_size=8)
    return accelerator, *accelerator.prepare(net, opt, scheduler, loader)


@pytest.mark.parametrize(
    "options", [{}, {"gradient_accumulation_steps": 2}, {"mixed_precision": "bf16"}]
)
def test_is_torchs_run(options: dict[str, Any]) -> None:
    ours = prepare(True, **options)
    rates = accelerated_epoch(*ours) + accelerated_epoch(*ours)
    theirs = prepare(False, **options)
    assert rates == accelerated_epoch(*theirs) + accelerated_epoch(*theirs)
    assert_same(ours[1], theirs[1])


def test_saves_and_loads(tmp_path: Path) -> None:
    run = prepare(True)
    accelerated_epoch(*run)
    run[0].save_state(str(tmp_path))
    expected = accelerated_epoch(*run)
    other = prepare(True)
    other[0].load_state(str(tmp_path))
    assert accelerated_epoch(*other) == expected
    assert expected[-1] == OPTIONS["lr"] * SCHEDULE(16)
    assert torch.equal(other[1][0].weight, run[1][0].weight)
