"""torch.distributed.checkpoint's view of an optimizer with an attached schedule, in one process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from support import same_bits, set_grads
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import SGD, AdamW

from fused_warmup import Attached, attach, linear_warmup

MAKERS = {"fused": partial(AdamW, fused=True), "numbers": AdamW, "without state": SGD}
SCHEDULE = linear_warmup(9)  # from a rate of 0, which is that of the dry run

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninit"),
    pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS),
]


def trained(make: Callable[..., Any], steps: int) -> tuple[torch.nn.Module, Attached]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = make([{"params": [*model[0].parameters()]}, {"params": model[1].parameters()}], 0.1)
    handle = attach(optimizer, SCHEDULE)
    for i in range(steps):
        step(model, handle, i)
    optimizer.zero_grad()
    return model, handle


def step(model: torch.nn.Module, handle: Attached, i: int) -> None:
    set_grads(list(model.parameters()), i)
    handle.optimizer.step()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("steps", [0, 3])
def test_round_trip_through_files(
    make: Callable[..., Any], steps: int, flat: bool, tmp_path: Path
) -> None:
    choice = StateDictOptions(flatten_optimizer_state_dict=flat)
    model, handle = trained(make, steps)
    for _ in range(2):  # which makes state by a step that is none
        saved = {"optimizer": get_optimizer_state_dict(model, handle.optimizer, options=choice)}
    assert handle.steps_applied == steps
    dcp.save(saved, checkpoint_id=tmp_path)

    other_model, other = trained(make, 0)
    other_model.load_state_dict(model.state_dict())
    loaded = {"optimizer": get_optimizer_state_dict(other_model, other.optimizer, options=choice)}
    dcp.load(loaded, checkpoint_id=tmp_path)
    set_optimizer_state_dict(other_model, other.optimizer, loaded["optimizer"], options=choice)
    assert other.steps_applied == steps
    for i in (8, 9):
        step(model, handle, i)
        step(other_model, other, i)
        assert other.get_last_lr() == handle.get_last_lr() == [0.1 * SCHEDULE(steps + i - 8)] * 2
    for p, q in zip(model.parameters(), other_model.parameters(), strict=True):
        assert same_bits(p, q)
