"""torch.distributed.checkpoint's view of the optimizer, in one process."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from support import nothing_moves, randn, same_bits, set_grads
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from fused_warmup import SGD, linear_warmup

OPTIONS = {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}


def trained() -> tuple[torch.nn.Module, SGD]:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    return model, SGD(model.parameters(), **OPTIONS, schedule=linear_warmup(9))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("steps", [0, 3])
def test_round_trip(steps: int, flat: bool) -> None:
    choice = StateDictOptions(flatten_optimizer_state_dict=flat)
    model, opt = trained()
    for step in range(steps):
        set_grads([p for p in model.parameters() if p.requires_grad], step)
        opt.step()
    opt.zero_grad()
    with nothing_moves(opt):
        saved = copy.deepcopy(get_optimizer_state_dict(model, opt, options=choice))
    other_model, other = trained()
    other_model.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other_model, other, saved, options=choice)
    assert other.steps_applied == steps
    assert other.param_groups[0]["lr"] == 0.1
    for module, each in ((model, opt), (other_model, other)):
        for p in module.parameters():
            p.grad = randn(*p.shape, seed=8) if p.requires_grad else None
        each.step()
    for p, q in zip(model.parameters(), other_model.parameters(), strict=True):
        assert same_bits(p, q)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")
def test_round_trip_through_files(tmp_path: Path) -> None:
    model, opt = trained()
    for step in range(3):
        set_grads([p for p in model.parameters() if p.requires_grad], step)
        opt.step()
    dcp.save({"optimizer": get_optimizer_state_dict(model, opt)}, checkpoint_id=tmp_path)
    other_model, other = trained()
    loaded = {"optimizer": get_optimizer_state_dict(other_model, other)}
    dcp.load(loaded, checkpoint_id=tmp_path)
    set_optimizer_state_dict(other_model, other, loaded["optimizer"])
    assert other.steps_applied == 3
    for p, q in zip(model.parameters(), other_model.parameters(), strict=True):
        if p.requires_grad:
            mine, theirs = opt.state[p], other.state[q]
            assert same_bits(mine["momentum_buffer"], theirs["momentum_buffer"])
            assert theirs["step"].dtype == torch.int64
    assert other.param_groups[0]["schedule"] == opt.param_groups[0]["schedule"]


@pytest.mark.parametrize("rate", [0.0, torch.tensor(0.0)], ids=["float", "tensor"])
def test_dry_run_moves_nothing(rate: Any) -> None:
    """Where the state is empty, DCP fills it by a step at rate 0 on zero gradients."""
    model, opt = trained()
    before = [p.detach().clone() for p in model.parameters()]
    opt.state.clear()
    get_optimizer_state_dict(model, opt)
    opt.param_groups[0]["lr"] = rate
    for p in model.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    opt.step()
    assert all(map(same_bits, model.parameters(), before))
    # A state that is there from the start keeps DCP from it: the count stays.
    model, opt = trained()
    get_optimizer_state_dict(model, opt)
    assert opt.steps_applied == 0
