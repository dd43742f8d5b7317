"""RateLog: the rates, counts and skips of the last steps."""

import pytest
import torch
from support import models, set_grads

from fused_warmup import SGD, RateLog, linear_warmup
from fused_warmup.schedules import exponential

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
