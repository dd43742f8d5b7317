"""Stopped at any step and resumed: to the bit what an uninterrupted run gives."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import copies, models, parameter, same_bits, set_grads, train
from torch import Tensor

from fused_warmup import SGD, linear_warmup
from fused_warmup.schedules import cosine_restarts, exponential, multi_step

SHAPES = ((5, 3), (7,), ())
TOTAL = 12
SCHEDULES = [
    None,
    linear_warmup(5, start=0.1).then(exponential(0.9, 2)),
    linear_warmup(7).then(multi_step([9, 11], 0.1), clock="global"),
]


def make(options: dict[str, Any], dtype: torch.dtype = torch.float32) -> SGD:
    """Three groups: as given, with other options, and unfrozen only at step 4."""
    first, second, late = models(*SHAPES, dtype=dtype)
    late.requires_grad_(False)
    groups = [
        {"params": [first]},
        {"params": [second], "lr": 0.05, "weight_decay": 0.1, "schedule": cosine_restarts(4)},
        {"params": [late], "momentum": 0.5, "dampening": 0.2, "nesterov": False},
    ]
    return SGD(groups, lr=0.1, **options)


def run(opt: SGD, begin: int, end: int) -> None:
    params = [p for group in opt.param_groups for p in group["params"]]
    for step in range(begin, end):
        params[2].requires_grad_(step >= 4)
        set_grads(params, step)
        if step < 4:
            params[2].grad = None
        opt.found_inf = torch.tensor(float(step == 2))  # in the middle of the warm-up
        opt.step()


def saved(opt: SGD) -> bytes:
    file = io.BytesIO()
    params = [p.detach() for group in opt.param_groups for p in group["params"]]
    torch.save({"params": params, "optimizer": opt.state_dict()}, file)
    return file.getvalue()


def loaded(data: bytes, options: dict[str, Any], dtype: torch.dtype, unfrozen: bool) -> SGD:
    checkpoint = torch.load(io.BytesIO(data), weights_only=True)
    opt = make(options, dtype)
    params = [p for group in opt.param_groups for p in group["params"]]
    params[2].requires_grad_(unfrozen)
    with torch.no_grad():
        for p, values in zip(params, checkpoint["params"], strict=True):
            p.copy_(values)
    opt.load_state_dict(checkpoint["optimizer"])
    return opt


def everything(opt: SGD) -> list[Tensor]:
    found = [p for group in opt.param_groups for p in group["params"]]
    momentum = [opt.state[p]["momentum_buffer"] for p in found if opt.state[p].keys() > {"step"}]
    return copies(found + momentum)


options_ = st.sampled_from(
    [
        {"momentum": 0.0},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
        {"momentum": 0.9, "nesterov": True, "maximize": True},
    ]
)


@given(
    stop=st.integers(0, TOTAL),
    options=options_,
    schedule=st.sampled_from(SCHEDULES),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    backend=st.sampled_from([None, "reference"]),
    fused=st.sampled_from([None, True]),
)
def test_stopped_anywhere(stop, options, schedule, dtype, backend, fused) -> None:
    options = {**options, "schedule": schedule, "backend": backend, "fused": fused}
    whole = make(options, dtype)
    run(whole, 0, TOTAL)
    part = make(options, dtype)
    run(part, 0, stop)
    resumed = loaded(saved(part), options, dtype, unfrozen=stop > 4)
    assert resumed.steps_applied == part.steps_applied
    run(resumed, stop, TOTAL)
    assert all(map(same_bits, everything(resumed), everything(whole)))
    assert (resumed.steps_applied, resumed.get_last_lr()) == (TOTAL - 1, whole.get_last_lr())


CHILD = """
import sys
import torch
sys.path += ["tests", "tests/optim"]
import test_resume

path, begin, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
options = test_resume.PROCESS_OPTIONS
if begin:
    data = open(path, "rb").read()
    opt = test_resume.loaded(data, options, torch.float32, unfrozen=begin > 4)
else:
    opt = test_resume.make(options)
test_resume.run(opt, begin, end)
open(path, "wb").write(test_resume.saved(opt))
"""
PROCESS_OPTIONS = {"momentum": 0.9, "dampening": 0.3, "schedule": SCHEDULES[1]}


def test_resumed_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    for begin, end in ((0, 5), (5, TOTAL)):
        arguments = [str(file), str(begin), str(end)]
        command = [sys.executable, "-W", "error", "-c", CHILD, *arguments]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    whole = make(PROCESS_OPTIONS)
    run(whole, 0, TOTAL)
    checkpoint = torch.load(file, weights_only=True)
    params = [p for group in whole.param_groups for p in group["params"]]
    assert all(map(same_bits, checkpoint["params"], params))
    for key, entry in whole.state_dict()["state"].items():
        for name in ("momentum_buffer", "step"):
            assert same_bits(checkpoint["optimizer"]["state"][key][name], entry[name])


@pytest.mark.parametrize("stop", [1, 3])
def test_steps_applied_starts_a_schedule_in_the_middle(stop: int) -> None:
    """From torch.optim.SGD's checkpoint, which has no count."""
    schedule = linear_warmup(6)
    whole = SGD(models(*SHAPES), lr=0.1, momentum=0.9, schedule=schedule)
    history = train(whole, 5)
    torchs = torch.optim.SGD(models(*SHAPES), lr=0.0, momentum=0.9, foreach=False)
    for step in range(stop):
        torchs.param_groups[0]["lr"] = 0.1 * schedule(step)
        train(torchs, 1, first=step)
    torchs.param_groups[0]["lr"] = 0.1
    ours = SGD(torchs.param_groups[0]["params"], lr=0.1, momentum=0.9, schedule=schedule)
    ours.load_state_dict(torchs.state_dict())
    ours.steps_applied = stop
    assert ours.get_last_lr() == [0.1 * schedule(stop - 1)]
    for expected, found in zip(history[stop:], train(ours, 5 - stop, first=stop), strict=True):
        assert all(map(same_bits, found, expected))


def test_setting_the_count_back_is_no_first_step() -> None:
    """The mark of a first step names its t; a count that comes by it again must not match."""
    p, q = parameter(torch.zeros(2)), parameter(torch.zeros(2))
    ours = SGD([p], lr=0.1, momentum=0.9, dampening=0.5)
    torchs = torch.optim.SGD([q], lr=0.1, momentum=0.9, dampening=0.5, foreach=False)
    for _ in range(4):
        ours.steps_applied = 0
        train(ours, 1)
        train(torchs, 1)
        assert same_bits(p, q)
