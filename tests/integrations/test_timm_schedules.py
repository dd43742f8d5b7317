"""from_timm beside timm's schedulers, every step and past the end."""

import itertools
from typing import Any

import pytest
import torch
from timm.scheduler import (
    CosineLRScheduler,
    MultiStepLRScheduler,
    PlateauLRScheduler,
    PolyLRScheduler,
    StepLRScheduler,
    TanhLRScheduler,
)
from timm.scheduler.wsd_lr import WSDLRScheduler

from fused_warmup import Schedule, from_timm

LR = 0.1
WARMUPS = [
    {"warmup_t": t, "warmup_prefix": prefix, "warmup_lr_init": 3e-4}
    for t, prefix in ((0, False), (3, False), (3, True), (13, False), (13, True))
]


def optimizer(*groups: dict[str, Any]) -> torch.optim.SGD:
    made = [{"params": [torch.zeros(1, requires_grad=True)], **g} for g in groups or ({},)]
    return torch.optim.SGD(made, lr=LR)


def check(schedule: Schedule, scheduler: Any, steps: int) -> None:
    for t in range(steps):
        assert abs(LR * schedule(t) - scheduler._get_lr(t)[0]) <= 1e-12 * LR, t


@pytest.mark.parametrize("warmup", WARMUPS, ids=str)
@pytest.mark.parametrize("low", [0.0, 1e-3])
@pytest.mark.parametrize(
    ("cls", "own"),
    [
        *[(CosineLRScheduler, {"k_decay": k}) for k in (1.0, 0.5, 1.7)],
        *[(PolyLRScheduler, {"k_decay": k, "power": p}) for k, p in ((1.0, 0.5), (1.7, 0.9))],
    ],
)
def test_cycles(cls: Any, own: dict[str, Any], low: float, warmup: dict[str, Any]) -> None:
    for mul, decay, limit in itertools.product((1, 2, 3, 1.5), (1, 0.5), (1, 2, 5)):
        cycles = {"cycle_mul": mul, "cycle_decay": decay, "cycle_limit": limit}
        options = {"lr_min": low, "t_in_epochs": False, **cycles, **own, **warmup}
        scheduler = cls(optimizer(), 10, **options)
        length = int(scheduler.get_cycle_length())
        check(from_timm(scheduler), scheduler, min(length + 40, 900))


@pytest.mark.parametrize("warmup", WARMUPS, ids=str)
def test_stairs_and_trapezoids(warmup: dict[str, Any]) -> None:
    options = {"t_in_epochs": False, **warmup}
    made: list[Any] = [
        StepLRScheduler(optimizer(), 4, 0.5, **options),
        StepLRScheduler(optimizer(), 4, 1.0, **options),
        MultiStepLRScheduler(optimizer(), [4, 7, 9], 0.5, **options),
        MultiStepLRScheduler(optimizer(), [1, 7, 7], 0.5, **options),
    ]
    options.pop("warmup_prefix")
    shapes = ("linear", "1-sqrt", "cosine", "power")
    made += [WSDLRScheduler(optimizer(), 20, 5, 1e-3, decay_fn=f, **options) for f in shapes]
    made.append(WSDLRScheduler(optimizer(), 20, 20, **options))
    for scheduler in made:
        check(from_timm(scheduler), scheduler, 90)


def test_the_rest_is_sampled() -> None:
    options: dict[str, Any] = {"t_in_epochs": False, **WARMUPS[1]}
    made: list[Any] = [
        TanhLRScheduler(optimizer(), 20, **options),
        CosineLRScheduler(optimizer(), 20, cycle_mul=0.9, cycle_limit=2, **options),
    ]
    options.pop("warmup_prefix")
    made.append(WSDLRScheduler(optimizer(), 20, 5, stable_fn="rsqrt", **options))
    for scheduler in made:
        with pytest.raises(ValueError, match="steps="):
            from_timm(scheduler)
        check(from_timm(scheduler, steps=30), scheduler, 30)


def test_noise_is_sampled_as_it_falls() -> None:
    opt = optimizer()
    scheduler = StepLRScheduler(opt, 4, 0.5, noise_range_t=3, t_in_epochs=False)
    schedule = from_timm(scheduler, steps=20)
    for t in range(20):
        scheduler.step_update(t)
        assert abs(LR * schedule(t) - opt.param_groups[0]["lr"]) <= 1e-12 * LR


def test_epochs_are_stretched() -> None:
    scheduler = CosineLRScheduler(optimizer(), 10, **WARMUPS[2])
    with pytest.raises(TypeError, match="steps_per_epoch"):
        from_timm(scheduler)
    schedule = from_timm(scheduler, steps_per_epoch=7)
    for t in range(150):
        assert abs(LR * schedule(t) - scheduler._get_lr(t // 7)[0]) <= 1e-12 * LR


def test_groups() -> None:
    opt = optimizer({}, {"lr_scale": 0.5})
    scheduler = CosineLRScheduler(opt, 10, t_in_epochs=False)
    with pytest.raises(ValueError, match="group="):
        from_timm(scheduler)
    for group in range(2):
        schedule = from_timm(scheduler, group=group)
        for t in range(12):
            scheduler.step_update(t)
            assert abs(LR * schedule(t) - opt.param_groups[group]["lr"]) <= 1e-12 * LR


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_refuses() -> None:
    with pytest.raises(TypeError, match="follows a metric"):
        from_timm(PlateauLRScheduler(optimizer()))
    with pytest.raises(TypeError, match="from_torch"):
        from_timm(torch.optim.lr_scheduler.StepLR(optimizer(), 3))
