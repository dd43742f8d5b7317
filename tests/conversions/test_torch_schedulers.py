"""torch's schedulers over this optimizer: torch.optim.SGD's trajectory, to the bit."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import models, same_bits, set_grads
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.optim.swa_utils import SWALR

from fused_warmup import SGD, linear_warmup

Make = Callable[[Optimizer], LRScheduler]

SCHEDULERS: dict[str, Make] = {
    "LambdaLR": lambda opt: LambdaLR(opt, lambda t: 0.95**t),
    "MultiplicativeLR": lambda opt: MultiplicativeLR(opt, lambda t: 0.9),
    "StepLR": lambda opt: StepLR(opt, step_size=3, gamma=0.5),
    "MultiStepLR": lambda opt: MultiStepLR(opt, [2, 5], gamma=0.3),
    "ConstantLR": lambda opt: ConstantLR(opt, factor=0.4, total_iters=4),
    "LinearLR": lambda opt: LinearLR(opt, start_factor=0.1, total_iters=5),
    "ExponentialLR": lambda opt: ExponentialLR(opt, gamma=0.9),
    "PolynomialLR": lambda opt: PolynomialLR(opt, total_iters=6, power=2.0),
    "CosineAnnealingLR": lambda opt: CosineAnnealingLR(opt, T_max=7, eta_min=0.01),
    "CosineAnnealingWarmRestarts": lambda opt: CosineAnnealingWarmRestarts(opt, T_0=3, T_mult=2),
    "CyclicLR": lambda opt: CyclicLR(opt, 0.01, 0.2, step_size_up=3, cycle_momentum=True),
    "OneCycleLR": lambda opt: OneCycleLR(opt, max_lr=0.5, total_steps=13, cycle_momentum=True),
    "ReduceLROnPlateau": lambda opt: ReduceLROnPlateau(opt, patience=1, factor=0.5),
    "SequentialLR": lambda opt: SequentialLR(
        opt, [LinearLR(opt, 0.1, total_iters=4), CosineAnnealingLR(opt, 8)], milestones=[4]
    ),
    "ChainedScheduler": lambda opt: ChainedScheduler(
        [ConstantLR(opt, 0.1, total_iters=3), ExponentialLR(opt, 0.9)], optimizer=opt
    ),
    "SWALR": lambda opt: SWALR(opt, swa_lr=0.01, anneal_epochs=5),
}
STEPS = 12
every_scheduler = pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)


def optimizers(lr: float | torch.Tensor = 0.1) -> tuple[SGD, torch.optim.SGD]:
    made = []
    for cls, more in ((SGD, {}), (torch.optim.SGD, {"foreach": False})):
        weight, bias = models((5, 3), (7,))
        groups: list[dict[str, Any]] = [
            {"params": [weight]},
            {"params": [bias], "lr": copy.deepcopy(lr) * 2, "weight_decay": 0.1},
        ]
        made.append(cls(groups, lr=copy.deepcopy(lr), momentum=0.9, **more))
    return made[0], made[1]


def advance(opt: Optimizer, scheduler: LRScheduler, t: int) -> list[torch.Tensor]:
    params = [p for group in opt.param_groups for p in group["params"]]
    set_grads(params, t)
    opt.step()
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(1.0 + 0.01 * t)  # never improves
    else:
        scheduler.step()
    return [p.detach().clone() for p in params]


def test_no_scheduler_of_torchs_is_missing() -> None:
    public = {name for name in lr_scheduler.__all__ if name != "LRScheduler"}
    assert public <= set(SCHEDULERS)


@pytest.mark.parametrize("tensor_lr", [False, True], ids=["float", "tensor"])
@every_scheduler
def test_is_torchs_trajectory(make: Make, tensor_lr: bool) -> None:
    ours, torchs = optimizers(torch.tensor(0.1, dtype=torch.float64) if tensor_lr else 0.1)
    mine, theirs = make(ours), make(torchs)
    rates = set()
    for t in range(STEPS):
        used = [float(group["lr"]) for group in torchs.param_groups]
        for a, b in zip(advance(ours, mine, t), advance(torchs, theirs, t), strict=True):
            assert same_bits(a, b)
        assert ours.get_last_lr() == used
        rates.add(used[0])
    assert len(rates) > 1
    assert ours.steps_applied == STEPS


@every_scheduler
def test_resumes_between_steps(make: Make) -> None:
    """A scheduler and the optimizer saved and loaded, in the order that torch's docs give."""
    ours, _ = optimizers()
    scheduler = make(ours)
    for t in range(5):
        params = advance(ours, scheduler, t)
    saved = copy.deepcopy((ours.state_dict(), scheduler.state_dict(), params))
    expected = [advance(ours, scheduler, t) for t in range(5, 9)]

    resumed, _ = optimizers()
    scheduler = make(resumed)
    scheduler.load_state_dict(saved[1])
    resumed.load_state_dict(saved[0])
    with torch.no_grad():
        for group, values in zip(resumed.param_groups, saved[2], strict=True):
            group["params"][0].copy_(values)
    for t, values in zip(range(5, 9), expected, strict=True):
        assert all(map(same_bits, advance(resumed, scheduler, t), values))


@pytest.mark.filterwarnings("ignore:group 0 has lr=")  # test_two_rates.py
def test_scheduler_scales_a_schedule() -> None:
    """What changes group["lr"] scales the result."""
    p = models((3,))[0]
    warmup = linear_warmup(4, start=0.2)
    opt = SGD([p], lr=1.0, schedule=warmup)
    scheduler = StepLR(opt, step_size=3, gamma=0.5)
    for t in range(9):
        advance(opt, scheduler, t)
        assert opt.get_last_lr() == [0.5 ** (t // 3) * warmup(t)]


def test_scheduler_sees_that_the_optimizer_stepped_first() -> None:
    """LRScheduler wraps opt.step, and warns where it is called before: warnings are errors here."""
    opt, _ = optimizers()
    scheduler = LinearLR(opt)
    assert opt.step._wrapped_by_lr_sched
    set_grads(opt.param_groups[0]["params"], 0)
    opt.step()
    scheduler.step()
    other, _ = optimizers()
    scheduler = LinearLR(other)
    with pytest.warns(UserWarning, match="lr_scheduler.step"):
        scheduler.step()
