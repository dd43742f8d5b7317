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
WARMUPS: list[dict[str, Any]] = [
    {"warmup_t": t, "warmup_prefix": prefix, "warmup_lr_init": 3e-4}
    for t in (0, 3, 13, 3.5, 0.25, 13.75)
    for prefix in (False, True)
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


def test_a_fractional_warmup_is_as_long_as_timms() -> None:
    options: dict[str, Any] = {"warmup_t": 3.5, "t_in_epochs": False}
    schedule = from_timm(CosineLRScheduler(optimizer(), 10, **options))
    assert schedule(1) == pytest.approx(1 / 3.5, rel=1e-15)
    assert schedule(3) == pytest.approx(3 / 3.5, rel=1e-15)
    for size in (10, 10.5, 7.25):
        for prefix in (False, True):
            more = {**options, "cycle_limit": 3, "warmup_prefix": prefix}
            scheduler = PolyLRScheduler(optimizer(), size, **more)  # type: ignore[arg-type]
            check(from_timm(scheduler), scheduler, 60)
            epochs = PolyLRScheduler(optimizer(), size, **{**more, "t_in_epochs": True})
            stretched = from_timm(epochs, steps_per_epoch=3)
            assert stretched(range(90)) == [from_timm(scheduler)(t // 3) for t in range(90)]
    wsd = WSDLRScheduler(optimizer(), 10.25, 4.5, 1e-3, **options)
    check(from_timm(wsd), wsd, 30)


class DropsAfter50Calls(CosineLRScheduler):  # type: ignore[misc]
    """Counts the calls of its own _get_lr; a stranger of a name that is known."""

    calls = 0

    def _get_lr(self, t: int) -> list[float]:
        self.calls += 1
        return [rate * (1.0 if self.calls <= 50 else 0.1) for rate in super()._get_lr(t)]


DropsAfter50Calls.__name__ = "CosineLRScheduler"


@pytest.mark.parametrize("warmup", [0, 3.5])
@pytest.mark.parametrize("in_epochs", [False, True])
def test_a_class_of_ones_own_is_run_as_it_is(in_epochs: bool, warmup: float) -> None:
    opt = optimizer({}, {"lr_scale": 0.5, "lr": 0.2})
    options: dict[str, Any] = {"warmup_t": warmup, "t_in_epochs": in_epochs}
    scheduler = DropsAfter50Calls(opt, 100, **options)
    per_epoch: dict[str, Any] = {"steps_per_epoch": 1} if in_epochs else {}
    with pytest.raises(ValueError, match="pass steps="):
        from_timm(scheduler, **per_epoch)
    schedules = [from_timm(scheduler, steps=90, group=i, **per_epoch) for i in range(2)]
    assert scheduler.calls == 0
    for t in range(90):
        if t:
            (scheduler.step if in_epochs else scheduler.step_update)(t)
        found = [schedules[0](t) * 0.1, schedules[1](t) * 0.2]
        assert found == pytest.approx([group["lr"] for group in opt.param_groups], rel=1e-12), t
    with pytest.raises(ValueError, match="has not been stepped"):
        from_timm(scheduler, steps=90, **per_epoch)


def test_functions_that_remember_are_left_alone() -> None:
    calls: list[float] = []

    def fall(x: float) -> float:
        calls.append(x)
        return 1.0 / len(calls)

    scheduler = WSDLRScheduler(optimizer(), 20, 10, decay_fn=fall, t_in_epochs=False)
    asked = len(calls)
    schedule = from_timm(scheduler, steps=20)
    assert len(calls) == asked
    opt = scheduler.optimizer
    for t in range(20):
        if t:
            scheduler.step_update(t)
        assert LR * schedule(t) == pytest.approx(opt.param_groups[0]["lr"], rel=1e-12)


def test_the_rest_is_sampled() -> None:
    options: dict[str, Any] = {"t_in_epochs": False, **WARMUPS[2]}
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
    scheduler = CosineLRScheduler(optimizer(), 10, **WARMUPS[3])
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
