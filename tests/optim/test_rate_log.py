"""RateLog: the rates, counts and skips of the last steps."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import models, parameter, randn, set_grads
from torch.utils._python_dispatch import TorchDispatchMode

from fused_warmup import SGD, RateLog, linear_warmup
from fused_warmup.distributed import StepInBackward
from fused_warmup.schedules import constant, exponential

WARMUP = linear_warmup(6, start=0.1)


def run(size: int, steps: int, skips: tuple[int, ...] = ()) -> tuple[SGD, RateLog]:
    weight, bias = models((3,), (2,))
    groups = [{"params": [weight]}, {"params": [bias], "schedule": exponential(0.5)}]
    opt = SGD(groups, lr=0.5, momentum=0.9, schedule=WARMUP)
    log = RateLog(opt, size)
    for call in range(steps):
        set_grads([weight, bias], call)
        opt.grad_scale = torch.tensor(1.0)
        opt.found_inf = torch.tensor(float(call in skips))
        opt.step()
    return opt, log


@pytest.mark.parametrize(("size", "steps"), [(8, 0), (8, 3), (8, 8), (3, 8), (1, 5)])
def test_holds_the_last_steps(size: int, steps: int) -> None:
    _, log = run(size, steps)
    reading = log.read()
    assert reading.is_ready()
    found = reading.steps()
    assert [step.call for step in found] == list(range(max(steps - size, 0), steps))
    for step in found:
        assert (step.t, step.skipped) == (step.call, False)
        assert step.lr == pytest.approx([0.5 * WARMUP(step.t), 0.5 * 0.5**step.t], rel=1e-14)


def test_tells_skips() -> None:
    opt, log = run(4, 7, skips=(0, 4, 5))
    found = log.read().steps()
    assert [step.skipped for step in found] == [False, True, True, False]
    assert [step.t for step in found] == [2, 3, 3, 3]
    assert opt.steps_applied == 4


def test_a_reading_keeps_what_it_read_and_a_closed_log_notes_nothing() -> None:
    opt, log = run(4, 2)
    reading = log.read()
    opt.step()
    assert len(reading.steps()) == 2
    assert len(log.read().steps()) == 3
    log.close()
    opt.step()
    assert log.calls == 3


def test_starts_anywhere() -> None:
    opt, _ = run(4, 5)
    log = RateLog(opt, 4)
    opt.step()
    assert [(step.call, step.t) for step in log.read().steps()] == [(0, 5)]
    with pytest.raises(ValueError, match="size"):
        RateLog(opt, 0)


def advance(opt: SGD, found_inf: float = 0.0) -> None:
    set_grads([p for group in opt.param_groups for p in group["params"]], 1)
    opt.grad_scale, opt.found_inf = torch.tensor(1.0), torch.tensor(found_inf)
    opt.step()


def noted(log: RateLog) -> list[tuple[int, bool]]:
    return [(step.t, step.skipped) for step in log.read().steps()]


def test_a_loaded_count_is_no_skip() -> None:
    opt, log = run(8, 3)
    saved = copy.deepcopy(opt.state_dict())
    advance(opt)
    opt.load_state_dict(saved)  # back to 3: the count after the next step is that before it
    advance(opt)
    opt.steps_applied = 100
    advance(opt)
    assert noted(log) == [(0, False), (1, False), (2, False), (3, False), (3, False), (100, False)]


def test_a_count_that_somebody_put_there() -> None:
    opt, log = run(8, 1)
    for p in list(opt.state):
        opt.state[p]["step"] = torch.tensor(41)
    advance(opt)
    advance(opt, found_inf=1.0)
    assert noted(log) == [(0, False), (41, False), (42, True)]


def test_a_step_without_gradients_is_told() -> None:
    opt, log = run(8, 1)
    opt.zero_grad()
    opt.grad_scale = opt.found_inf = None
    opt.step()
    opt.found_inf = 1  # GradScaler's, from gradients on no device
    opt.step()
    assert noted(log) == [(0, False), (1, True), (1, True)]


def test_groups_that_come_late() -> None:
    opt, log = run(4, 3)
    opt.add_param_group({"params": models((2,)), "lr": 0.25, "schedule": constant()})
    advance(opt)
    advance(opt)
    found = log.read().steps()
    assert [step.t for step in found] == [1, 2, 3, 4]
    assert [len(step.lr) for step in found] == [2, 2, 3, 3]
    assert found[3].lr == pytest.approx([0.5 * WARMUP(4), 0.5 * 0.5**4, 0.25], rel=1e-14)


def test_a_log_of_frozen_parameters() -> None:
    p = parameter(randn(3, seed=0)).requires_grad_(False)
    opt = SGD([p], lr=0.5, schedule=WARMUP)
    log = RateLog(opt, 4)
    opt.step()
    p.requires_grad_()
    advance(opt)
    advance(opt)
    assert noted(log) == [(0, True), (0, False), (1, False)]


def test_a_model_that_comes_from_meta() -> None:
    layer = torch.nn.Linear(2, 2, device="meta")
    opt = SGD(layer.parameters(), lr=0.5, momentum=0.9, schedule=WARMUP)
    log = RateLog(opt, 4)
    layer.to_empty(device="cpu")
    opt.param_groups[0]["params"] = list(layer.parameters())
    advance(opt)
    assert noted(log) == [(0, False)]


def test_updates_inside_backward() -> None:
    weight = parameter(randn(3, seed=0))
    opt = SGD([weight], lr=0.5, schedule=WARMUP)
    StepInBackward(opt)
    log = RateLog(opt, 4)
    for _ in range(3):
        weight.sum().backward()
        opt.step()
    assert noted(log) == [(0, False), (1, False), (2, False)]
    assert [step.lr for step in log.read().steps()] == [[0.5 * WARMUP(t)] for t in range(3)]


def test_a_compiled_step_is_noted() -> None:
    torch._dynamo.reset()
    opt, log = run(8, 2)

    @torch.compile(backend="eager")
    def step() -> None:
        opt.step()

    for _ in range(3):
        step()
    torch._dynamo.reset()
    assert noted(log) == [(t, False) for t in range(5)]


class Recorded(TorchDispatchMode):
    """Operations that can be done again on the same tensors, as a CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.operations.append(lambda: func(*args, **kwargs))
        return func(*args, **kwargs)


def test_replays_of_one_noted_step_fill_row_after_row() -> None:
    """A graph repeats what the hooks did on the device, and nothing that Python did."""
    opt, log = run(3, 2)
    with Recorded() as before:
        log._before(opt)
    opt._step()
    with Recorded() as after:
        log._after(opt)
    log.close()
    assert 0 < len(before.operations) < len(after.operations) < 10
    for t in range(3, 8):
        for operation in before.operations:
            operation()
        opt.found_inf = torch.tensor(float(t == 5))
        opt._step()
        for operation in after.operations:
            operation()
    found = log.read().steps()
    assert [(step.call, step.t, step.skipped) for step in found] == [
        (5, 5, True),
        (6, 5, False),
        (7, 6, False),
    ]
    assert found[2].lr == opt.get_last_lr()
    assert log.calls == 8


def test_columns_hold_what_the_steps_hold() -> None:
    _, log = run(3, 2)
    steps = log.read().steps()
    assert log.to_dict() == {
        "call": [step.call for step in steps],
        "t": [step.t for step in steps],
        "skipped": [step.skipped for step in steps],
        **{f"lr_{i}": [step.lr[i] for step in steps] for i in range(len(steps[0].lr))},
    }


def test_columns_of_a_group_that_came_later_begin_with_none() -> None:
    opt, log = run(2, 4)
    groups = len(opt.param_groups)
    opt.add_param_group({"params": [torch.ones(2, requires_grad=True)], "lr": 0.25})
    advance(opt)
    columns = log.to_dict()
    assert columns[f"lr_{groups}"][:-1] == [None] * (len(columns["t"]) - 1)
    assert columns[f"lr_{groups}"][-1] == opt.get_last_lr()[groups]


def test_a_log_without_steps_has_columns_and_a_short_repr() -> None:
    opt = SGD([torch.ones(2, requires_grad=True)], lr=0.5)
    log = RateLog(opt, size=3)
    assert log.to_dict() == {"call": [], "t": [], "skipped": []}
    assert repr(log) == "RateLog(SGD, size=3)"
