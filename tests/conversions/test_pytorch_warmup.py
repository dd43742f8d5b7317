"""pytorch_warmup's factors, alone and over what a scheduler sets, from any step on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import set_grads
from support.own_schedulers import optimizer
from support.pytorch_warmup_stand_in import ExponentialWarmup, LinearWarmup, RAdamWarmup
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau, StepLR

from fused_warmup import attach, convert, from_pytorch_warmup, from_torch
from fused_warmup.schedules import linear_warmup

goes_on_as_an_oracle = pytest.mark.filterwarnings(
    "ignore:the learning rate was set of a torch.optim.SGD"
)
WARMUPS: dict[str, Callable[[Any], Any]] = {
    "linear": lambda o: LinearWarmup(o, [10, 25]),
    "exponential": lambda o: ExponentialWarmup(o, [10, 25]),
    "RAdam's": lambda o: RAdamWarmup(o, 0.95),
}


class Squared(LinearWarmup):
    """Somebody's own."""

    def warmup_factor(self, step: int, warmup_period: int) -> float:  # type: ignore[override]
        return min((step + 1) / warmup_period, 1.0) ** 2


class Falling(LRScheduler):
    """Somebody's own, which has no formula here."""

    def get_lr(self) -> list[Any]:
        return [group["lr"] * (0.99 if self.last_epoch else 1.0) for group in self._groups()]

    def _groups(self) -> list[Any]:
        return self.optimizer.param_groups


BELOW: dict[str, Callable[[Any], Any]] = {
    "none": lambda o: None,
    "torch's": lambda o: CosineAnnealingLR(o, 40, 0.01),
    "somebody's own": Falling,
}


@pytest.mark.parametrize("name", WARMUPS)
def test_the_factor_of_every_step(name: str) -> None:
    warmup = WARMUPS[name](optimizer())
    for _ in range(7):
        with warmup.dampening():
            pass
    for i, params in enumerate(warmup.warmup_params):
        schedule = from_pytorch_warmup(warmup, group=i)
        for t in (*range(0, 400, 7), 100_000):
            assert schedule(t) == pytest.approx(warmup.warmup_factor(t, **params), rel=1e-12), t
    assert from_pytorch_warmup(warmup, steps=9, group=0).steps == 9


def test_the_first_factors() -> None:
    warmup = LinearWarmup(optimizer(), [4, 4])
    assert from_pytorch_warmup(warmup)(range(5)) == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert from_pytorch_warmup(warmup, steps=4) == linear_warmup(4, count_from=1)


@goes_on_as_an_oracle
@pytest.mark.parametrize("name", [*WARMUPS, "somebody's own"])
@pytest.mark.parametrize("below", BELOW)
def test_convert_goes_on_from_any_step(name: str, below: str) -> None:
    for done in (0, 4, 30):
        opt = optimizer()
        scheduler = BELOW[below](opt)
        make = WARMUPS.get(name, lambda o: Squared(o, [10, 25]))
        warmup = make(opt)
        advance(warmup, scheduler, done)
        given = [warmup] if scheduler is None else [scheduler, warmup]
        before = [group["lr"] for group in opt.param_groups]
        fused = convert(opt, given, steps=100)
        assert fused.steps_applied == done
        assert [group["lr"] for group in opt.param_groups] == before
        for t in range(60):
            set_grads([p for group in fused.param_groups for p in group["params"]], t)
            fused.step()
            expected = [group["lr"] for group in opt.param_groups]
            assert fused.get_last_lr() == pytest.approx(expected, rel=1e-12, abs=1e-15), t
            advance(warmup, scheduler, 1)


def advance(warmup: Any, scheduler: Any, steps: int) -> None:
    for _ in range(steps):
        with warmup.dampening():
            if scheduler is not None:
                scheduler.step()


@goes_on_as_an_oracle
def test_a_scheduler_of_epochs_below() -> None:
    for epochs in (0, 2):
        opt = optimizer()
        scheduler, warmup = StepLR(opt, 2, 0.5), LinearWarmup(opt, [12, 12])

        def batch(n: int, warmup: Any = warmup, scheduler: Any = scheduler) -> None:
            with warmup.dampening():
                if n % 5 == 4:
                    scheduler.step()

        for n in range(5 * epochs):
            batch(n)
        fused = convert(opt, [scheduler, warmup], steps_per_epoch=5)
        assert fused.steps_applied == 5 * epochs
        for n in range(30):
            set_grads([p for group in fused.param_groups for p in group["params"]], n)
            fused.step()
            expected = [group["lr"] for group in opt.param_groups]
            assert fused.get_last_lr() == pytest.approx(expected, rel=1e-12)
            batch(n)


def test_the_same_product_for_any_optimizer() -> None:
    runs: list[list[float]] = []
    for ours in (False, True):
        opt = torch.optim.AdamW([torch.ones(2, requires_grad=True)], lr=0.1)
        scheduler, found = CosineAnnealingLR(opt, 20), []
        warmup = RAdamWarmup(opt, 0.95)
        if ours:
            opt = torch.optim.AdamW([torch.ones(2, requires_grad=True)], lr=0.1)
            handle = attach(opt, from_torch(scheduler) * from_pytorch_warmup(warmup))
        for _ in range(15):
            opt.param_groups[0]["params"][0].grad = torch.ones(2)
            if not ours:
                found.append(opt.param_groups[0]["lr"])
            opt.step()
            if ours:
                found.append(handle.get_last_lr()[0])
            else:
                advance(warmup, scheduler, 1)
        runs.append(found)
    assert runs[1] == pytest.approx(runs[0], rel=1e-12)


def test_a_plateau_below_stays_one() -> None:
    opt = optimizer()
    plateau, warmup = ReduceLROnPlateau(opt, patience=0, factor=0.5), LinearWarmup(opt, [10, 10])
    advance(warmup, None, 3)
    fused = convert(opt, [plateau, warmup])
    for metric in (1.0, 1.0):
        plateau.step(metric)
    set_grads([p for group in fused.param_groups for p in group["params"]], 0)
    fused.step()
    assert fused.get_last_lr() == pytest.approx([0.1 * 0.5 * 0.4, 0.2 * 0.5 * 0.4])


def test_what_cannot_be_converted_says_why() -> None:
    opt = optimizer()
    scheduler, warmup = StepLR(opt, 3), LinearWarmup(opt, [10, 25])
    with pytest.raises(ValueError, match=r"different warm-ups.*group="):
        from_pytorch_warmup(warmup)
    with pytest.raises(TypeError, match=r"got a StepLR.*from_torch"):
        from_pytorch_warmup(scheduler)
    with pytest.raises(ValueError, match=r"Squared has no closed form.*pass steps="):
        from_pytorch_warmup(Squared(optimizer(), [3, 3]))
    with pytest.raises(ValueError, match="a table holds 4194304: pass steps="):
        from_pytorch_warmup(RAdamWarmup(optimizer(), 1 - 1e-9))
    with pytest.raises(ValueError, match="twice: pass one"):
        convert(opt, [warmup, LinearWarmup(opt, [3, 3])])
    with pytest.raises(ValueError, match="drives another optimizer"):
        convert(optimizer(), [warmup])
    advance(warmup, None, 4)
    with pytest.raises(ValueError, match=r"4 steps in, and the schedulers are 0.*steps_per_epoch"):
        convert(opt, [scheduler, warmup])
    with pytest.raises(TypeError, match=r"it must be a scheduler of torch"):
        from_torch(warmup)
