"""from_ignite and convert beside ignite's schedulers, call by call, from any call on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ignite.handlers.param_scheduler import (
    ConcatScheduler,
    CosineAnnealingScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    ParamGroupScheduler,
    PiecewiseLinear,
    ReduceLROnPlateauScheduler,
    create_lr_scheduler_with_warmup,
)
from support.own_schedulers import DropsAfter100Calls, optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    OneCycleLR,
    StepLR,
)

from fused_warmup import convert, from_ignite, from_timm
from fused_warmup.schedules import Kind

Make = Callable[[Any], Any]
CALLS = 90


def linear(o: Any, *sizes: Any, **options: Any) -> Any:
    return LinearCyclicalScheduler(o, "lr", *sizes, **options)


def cosine(o: Any, *sizes: Any, **options: Any) -> Any:
    return CosineAnnealingScheduler(o, "lr", *sizes, **options)


def lines(o: Any, *points: tuple[int, float], **options: Any) -> Any:
    return PiecewiseLinear(o, "lr", list(points), **options)


def stepped(scheduler: Any) -> Any:
    for _ in range(3):
        scheduler.step()
    return scheduler


CYCLES: dict[str, dict[str, Any]] = {
    "alike": {},
    "that grow": {"cycle_mult": 2.0, "start_value_mult": 0.5},
    "that fall": {"start_value_mult": 0.8, "end_value_mult": 0.8},
    "that grow by a half": {"cycle_mult": 1.5, "end_value_mult": 0.9},
    "with ramps": {"warmup_duration": 4},
    "with ramps that fall": {"warmup_duration": 4, "start_value_mult": 0.7, "end_value_mult": 0.7},
    "with ramps that grow": {"warmup_duration": 3, "cycle_mult": 2.0, "start_value_mult": 0.7},
}
CASES: dict[str, Make] = {
    "lines": lambda o: lines(o, (10, 0.5), (20, 0.45), (21, 0.3), (30, 0.1), (40, 0.1)),
    "a line from 0": lambda o: lines(o, (0, 0.0), (7, 0.5)),
    "a jump": lambda o: lines(o, (0, 0.1), (7, 0.5), (7, 0.2), (15, 0.0)),
    "a number": lambda o: lines(o, (3, 0.3)),
    **{
        f"lines there and back, {name}": lambda o, more=more: linear(o, 0.01, 0.5, 9, **more)
        for name, more in CYCLES.items()
        if "warmup_duration" not in more
    },
    **{
        f"lines, {name}": lambda o, more=more: linear(o, 0.5, 0.01, 8, monotonic=True, **more)
        for name, more in CYCLES.items()
    },
    **{
        f"cosines, {name}": lambda o, more=more: cosine(o, 0.5, 0.01, 8, **more)
        for name, more in CYCLES.items()
    },
    "ExponentialLR": lambda o: LRScheduler(ExponentialLR(o, 0.95)),
    "StepLR": lambda o: LRScheduler(StepLR(o, 10, 0.5)),
    "CosineAnnealingLR": lambda o: LRScheduler(CosineAnnealingLR(o, 30, 0.01)),
    "CosineAnnealingLR that was stepped": lambda o: LRScheduler(stepped(CosineAnnealingLR(o, 30))),
    "CosineAnnealingWarmRestarts": lambda o: LRScheduler(CosineAnnealingWarmRestarts(o, 8, 2)),
    "one after another": lambda o: ConcatScheduler(
        [linear(o, 0.0, 1.0, 8), cosine(o, 1.0, 0.2, 4), lines(o, (0, 0.2), (9, 0.0))], [4, 13]
    ),
    "one that never ends": lambda o: ConcatScheduler(
        [linear(o, 0.0, 1.0, 8), cosine(o, 1.0, 0.2, 4), lines(o, (0, 0.2), (9, 0.0))], [5, 0]
    ),
    "one that is left out": lambda o: ConcatScheduler(
        [linear(o, 0.0, 1.0, 8), cosine(o, 1.0, 0.2, 4)], [0]
    ),
    "of each group": lambda o: ParamGroupScheduler(
        [
            cosine(o, 0.0, 1.0, 8, param_group_index=0),
            lines(o, (0, 0.2), (9, 0.0), param_group_index=1),
        ]
    ),
    "of one group": lambda o: cosine(o, 0.0, 1.0, 8, param_group_index=1),
    "a warm-up, then ExponentialLR": lambda o: create_lr_scheduler_with_warmup(
        ExponentialLR(o, 0.98), 0.0, 10, 0.1
    ),
    "a warm-up to another rate": lambda o: create_lr_scheduler_with_warmup(
        StepLR(o, 30, 0.5), 0.01, 10, 0.4
    ),
    "a warm-up, then CosineAnnealingLR": lambda o: create_lr_scheduler_with_warmup(
        CosineAnnealingLR(o, 20, 0.001), 0.01, 10, 0.4
    ),
    "a warm-up of two": lambda o: create_lr_scheduler_with_warmup(
        cosine(o, 0.3, 0.1, 20), 0.0, 2, 0.3
    ),
    "a warm-up, then cosines": lambda o: create_lr_scheduler_with_warmup(
        cosine(o, 0.3, 0.1, 20), 0.0, 12, 0.3
    ),
    "a warm-up, then restarts": lambda o: create_lr_scheduler_with_warmup(
        CosineAnnealingWarmRestarts(o, 10, 2), 0.0, 12
    ),
}  # fmt: skip
CUT: dict[str, Make] = {
    "cycles that shrink": lambda o: linear(o, 0.01, 0.5, 60, cycle_mult=0.7),
    "cycles that differ": lambda o: cosine(o, 0.5, 0.01, 8, start_value_mult=0.9),
    "a function": lambda o: LRScheduler(LambdaLR(o, lambda t: 0.95**t)),
    "a class of one's own": lambda o: LRScheduler(DropsAfter100Calls(o)),
    "one of one's own": lambda o: type("Mine", (LinearCyclicalScheduler,), {})(
        o, "lr", 0.1, 0.5, 7
    ),
    "then a function": lambda o: create_lr_scheduler_with_warmup(
        LambdaLR(o, lambda t: 1 / (1 + t)), 0.0, 10
    ),
}


def called(scheduler: Any, opt: Any, calls: int) -> list[list[float]]:
    rows = []
    for _ in range(calls):
        scheduler(None)
        rows.append([float(group["lr"]) for group in opt.param_groups])
    return rows


def near(values: Any) -> Any:
    return pytest.approx(values, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", [*CASES, *CUT])
def test_every_call_from_any_call(name: str) -> None:
    for done in (0, 1, 8, 9, 10, 29):
        opt = optimizer()
        scheduler = {**CASES, **CUT}[name](opt)
        called(scheduler, opt, done)
        steps = CALLS if name in CUT else None
        if steps and name != "cycles that shrink":
            with pytest.raises(ValueError, match="pass steps="):
                from_ignite(scheduler, group=0, lr=1.0)
        found = [from_ignite(scheduler, group=i, lr=1.0, steps=steps) for i in range(2)]
        assert [schedule.steps for schedule in found] == [steps] * 2
        expected = called(scheduler, opt, CALLS)
        for i, schedule in enumerate(found):
            assert schedule(range(CALLS)) == near([row[i] for row in expected]), done


def test_the_segments_are_few() -> None:
    assert [
        s.kind for s in from_ignite(CASES["cosines, alike"](optimizer()), group=0).segments
    ] == [Kind.COS]
    sizes = [
        len(from_ignite(make(optimizer()), group=0, lr=1.0).segments) for make in CASES.values()
    ]
    assert max(sizes) < 256


@pytest.mark.filterwarnings("ignore:the learning rate was set of a torch.optim.SGD")
@pytest.mark.parametrize(
    "name", ["one after another", "a warm-up, then ExponentialLR", "a function"]
)
def test_convert_goes_on(name: str) -> None:
    for done in (0, 7, 20):
        opt = optimizer()
        scheduler = {**CASES, **CUT}[name](opt)
        called(scheduler, opt, done)
        fused = convert(opt, scheduler, steps=CALLS)
        assert fused.steps_applied == 0
        for row in called(scheduler, opt, 40):
            for group in fused.param_groups:
                group["params"][0].grad = torch.ones_like(group["params"][0])
            fused.step()
            assert fused.get_last_lr() == near(row)


def test_one_that_is_called_once_an_epoch() -> None:
    opt = optimizer()
    scheduler = cosine(opt, 0.5, 0.01, 8)
    expected = from_ignite(scheduler, group=0)
    fused = convert(opt, scheduler, steps_per_epoch=3)
    for t in range(24):
        assert fused.param_groups[0]["schedule"].schedule(t) == expected(t // 3)


def test_what_cannot_be_converted_says_why() -> None:
    opt = optimizer()
    with pytest.raises(TypeError, match="follows a metric"):
        from_ignite(ReduceLROnPlateauScheduler(opt, "loss"))
    with pytest.raises(TypeError, match="moves 'momentum', only 'lr'"):
        from_ignite(LinearCyclicalScheduler(opt, "momentum", 0.9, 0.8, 10))
    with pytest.raises(TypeError, match=r"StepLR.*from_torch"):
        from_ignite(StepLR(opt, 3))
    with pytest.raises(ValueError, match="moves momentum"):
        from_ignite(LRScheduler(OneCycleLR(opt, 0.5, 30)), steps=20)
    with pytest.raises(ValueError, match="shrink to nothing"):
        from_ignite(linear(opt, 0.1, 0.5, 10, cycle_mult=0.5), group=0)
    with pytest.raises(ValueError, match=r"different schedules.*group="):
        from_ignite(CASES["of each group"](optimizer()))
    with pytest.raises(ValueError, match="must be alone"):
        convert(opt, [linear(opt, 0.1, 0.5, 10), StepLR(opt, 3)])
    with pytest.raises(ValueError, match="drives another optimizer"):
        convert(optimizer(), linear(opt, 0.1, 0.5, 10))
    with pytest.raises(TypeError, match="must be a scheduler of timm"):
        from_timm(linear(opt, 0.1, 0.5, 10))
