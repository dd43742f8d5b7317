"""from_torch and convert beside ildoonet's GradualWarmupScheduler, as its release has it."""

from typing import Any

import pytest
from support.library_schedulers import gradual
from support.own_schedulers import optimizer
from warmup_scheduler import GradualWarmupScheduler

from fused_warmup import convert, from_torch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CASES = gradual(GradualWarmupScheduler)


def rates(scheduler: Any, steps: int) -> list[list[float]]:
    found = [[float(group["lr"]) for group in scheduler.optimizer.param_groups]]
    for _ in range(steps - 1):
        scheduler.step()
        found.append([float(group["lr"]) for group in scheduler.optimizer.param_groups])
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_step_from_any_step(name: str) -> None:
    expected = rates(CASES[name](optimizer()), 60)
    for done in (0, 5, 17):
        scheduler = CASES[name](opt := optimizer())
        rates(scheduler, done + 1)
        for i, group in enumerate(opt.param_groups):
            schedule = from_torch(scheduler, group=i)
            found = [group["initial_lr"] * factor for factor in schedule(range(60))]
            assert found == pytest.approx([row[i] for row in expected], rel=1e-12, abs=1e-15)
        fused = convert(opt, scheduler)
        for row in expected[done:]:
            for group in fused.param_groups:
                group["params"][0].grad = group["params"][0].detach() * 0.1
            fused.step()
            assert fused.get_last_lr() == pytest.approx(row, rel=1e-12, abs=1e-15)
