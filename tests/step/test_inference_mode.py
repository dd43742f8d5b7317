"""What is made under torch.inference_mode steps outside of it, as with torch.optim.SGD."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import copies, models, parameter, same_bits, set_grads, train
from support.recorded import Recorded
from torch import Tensor

from fused_warmup import SGD, RateLog, clip_grad_norm_, convert, linear_warmup
from fused_warmup._backend.triton.tables import DeviceTables
from fused_warmup.distributed import StepInBackward
from fused_warmup.schedules import one_cycle_momentum

BACKENDS = [None, "cpu", "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)
OPTIONS: dict[str, Any] = {
    "lr": 0.5,
    "momentum": 0.9,
    "dampening": 0.1,
    "weight_decay": 0.01,
    "schedule": linear_warmup(6, 0.1),
    "momentum_schedule": one_cycle_momentum(10),
}


def make(backend: str | None, **options: Any) -> SGD:
    return SGD(models((5, 3), (7,)), backend=backend, **{**OPTIONS, **options})


def params(opt: SGD) -> list[Tensor]:
    return [p for group in opt.param_groups for p in group["params"]]


def add(opt: SGD) -> None:
    with torch.inference_mode(False):  # a parameter of inference mode could not be stepped outside
        p = parameter(torch.ones(4))
    opt.add_param_group({"params": [p]})


# Each is called with an optimizer that was made before.
WAYS: dict[str, Callable[[SGD], Any]] = {
    "nothing": lambda opt: None,
    "a rate is read": lambda opt: opt.lr_tensor(),
    "the count is set": lambda opt: setattr(opt, "steps_applied", 2),
    "the count is read": lambda opt: opt.steps_applied,
    "a scheduler is made": lambda opt: opt.scheduler().step(),
    "a group is added": add,
    "a step": lambda opt: train(opt, 1),
    "a step of a new group": lambda opt: (add(opt), train(opt, 1)),
    "a state is loaded": lambda opt: opt.load_state_dict(copy.deepcopy(opt.state_dict())),
    "a schedule is put aside": lambda opt: opt.without_schedules().__enter__(),
    "momentum is turned off and on": lambda opt: (
        opt.param_groups[0].update(momentum=0),
        train(opt, 1),
        opt.param_groups[0].update(momentum=0.9),
        train(opt, 1),
    ),
    "a counter is put there": lambda opt: (
        [entry.update(step=torch.tensor(3)) for entry in opt.state.values()],
        opt.steps_applied,
    ),
    "gradients are clipped": lambda opt: (set_grads(params(opt), 0), clip_grad_norm_(opt, 0.1)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@every_backend
def test_goes_on_outside(backend: str | None, way: Callable[[SGD], Any]) -> None:
    runs = []
    for inside in (True, False):
        opt = make(backend)
        with torch.inference_mode(inside):
            way(opt)
        runs.append((train(opt, 3), opt))
    for ours, theirs in zip(runs[0][0], runs[1][0], strict=True):
        assert all(map(same_bits, ours, theirs))
    assert runs[0][1].steps_applied == runs[1][1].steps_applied
    assert runs[0][1].get_last_lr() == runs[1][1].get_last_lr()
    for entry in runs[0][1].state.values():
        assert not any(value.is_inference() for value in entry.values())
    assert not runs[0][1].lr_tensor().is_inference()


@every_backend
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("schedule", [None, linear_warmup(6, 0.1)], ids=["none", "warmup"])
def test_made_inside(backend: str | None, momentum: float, schedule: Any) -> None:
    made = models((5, 3), (7,))
    with torch.inference_mode():
        opt = SGD(made, lr=0.5, momentum=momentum, schedule=schedule, backend=backend)
        assert opt.get_last_lr() == [pytest.approx(0.5 if schedule is None else 0.05)]
    twin = SGD(models((5, 3), (7,)), lr=0.5, momentum=momentum, schedule=schedule, backend=backend)
    for ours, theirs in zip(train(opt, 3), train(twin, 3), strict=True):
        assert all(map(same_bits, ours, theirs))
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    opt.steps_applied = 1
    train(opt, 1)
    assert opt.steps_applied == 2


@every_backend
def test_a_parameter_unfrozen_inside(backend: str | None) -> None:
    runs = []
    for inside in (True, False):
        opt = make(backend)
        late = parameter(torch.ones(4)).requires_grad_(False)
        opt.add_param_group({"params": [late]})
        with torch.inference_mode(inside):
            late.requires_grad_()
            late.grad = torch.ones(4)
            opt.step()
        runs.append(train(opt, 2))
    for ours, theirs in zip(*runs, strict=True):
        assert all(map(same_bits, ours, theirs))


@every_backend
def test_a_state_loaded_inside_over_none(backend: str | None) -> None:
    """Momentum that the optimizer has no tensor for yet."""
    source = make(backend)
    train(source, 2)
    opt = make(backend, momentum=0.0, dampening=0.0)
    for p, value in zip(params(opt), copies(params(source)), strict=True):
        p.data.copy_(value)
    with torch.inference_mode():
        opt.load_state_dict(copy.deepcopy(source.state_dict()))
    for ours, theirs in zip(train(opt, 2, first=2), train(source, 2, first=2), strict=True):
        assert all(map(same_bits, ours, theirs))


def test_a_converted_run() -> None:
    runs = []
    for inside in (True, False):
        theirs = torch.optim.SGD(models((5, 3), (7,)), lr=0.5, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(theirs, 0.5)
        train(theirs, 2, after=lambda _, scheduler=scheduler: scheduler.step())
        with torch.inference_mode(inside):
            opt = convert(theirs, scheduler)
        runs.append(train(opt, 2))
    for ours, expected in zip(*runs, strict=True):
        assert all(map(same_bits, ours, expected))


@pytest.mark.parametrize("late_group", [False, True])
def test_a_rate_log(late_group: bool) -> None:
    opt = make(None)
    with torch.inference_mode():
        log = RateLog(opt, 4)
    train(opt, 2)
    with torch.inference_mode():
        if late_group:
            add(opt)
        train(opt, 1)
        reading = log.read()
    train(opt, 1)
    assert [step.t for step in reading.steps()] == [0, 1, 2]
    assert [step.t for step in log.read().steps()] == [0, 1, 2, 3]


def test_a_scheduler() -> None:
    made = models((5, 3), (7,))
    with torch.inference_mode():
        opt = SGD(made, **OPTIONS)
        scheduler = opt.scheduler()
    for t in range(3):
        assert scheduler.get_last_lr() == [pytest.approx(0.5 * linear_warmup(6, 0.1)(t))]
        train(opt, 1)
        scheduler.step()


def test_steps_in_backward() -> None:
    model = torch.nn.Linear(3, 1)
    with torch.inference_mode():
        opt = SGD(model.parameters(), lr=0.1, momentum=0.9)
        StepInBackward(opt)
    before = copies(list(model.parameters()))
    for _ in range(2):
        model(torch.ones(2, 3)).sum().backward()
        opt.step()
    assert not any(map(torch.equal, before, model.parameters()))
    assert opt.steps_applied == 2


def test_a_table_of_the_triton_backend() -> None:
    there = DeviceTables(torch.device("cpu"))
    recorded = Recorded([torch.ones(3) for _ in range(20)])
    for n in (1, 1, 20):
        with torch.inference_mode():
            tables, content, *_ = recorded.step([torch.ones(3)] * n + [None] * (20 - n))
            there.holding(tables, content, False)
        tables, content, *_ = recorded.step([torch.zeros(3)] * n + [None] * (20 - n))
        base, *_ = there.holding(tables, content, False)
        assert base == there._table.data_ptr()
        assert not there._table.is_inference()
