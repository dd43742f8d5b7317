"""Schedulers that no schedule can state: refused, each with the remedy, and nothing moved."""

import copy
import itertools
from typing import Any

import pytest
import torch
from support.own_schedulers import DropsAfter100Calls, Make, optimizer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    LambdaLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from fused_warmup import convert, from_torch


def test_generators_cannot_be_copied() -> None:
    factors = (0.9**i for i in itertools.count())
    scheduler = LambdaLR(optimizer(), lambda t: next(factors))
    with pytest.raises(TypeError, match=r"LambdaLR.*cannot be copied.*generator.*group\[\"lr\"\]"):
        from_torch(scheduler, steps=9)
    assert next(factors) == 0.9**2


class FollowsTheModel(LRScheduler):
    def __init__(self, optimizer: Optimizer, model: torch.nn.Module) -> None:
        self.model = model
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        return [base / float(self.model.weight.detach().norm()) for base in self.base_lrs]


class FollowsTheState(LRScheduler):
    def get_lr(self) -> list[Any]:
        return [base / (1 + len(self.optimizer.state)) for base in self.base_lrs]


class FollowsTheParameters(LRScheduler):
    def get_lr(self) -> list[Any]:
        groups = self.optimizer.param_groups
        return [float(sum(p.detach().norm() for p in group["params"])) for group in groups]


class FollowsAMetric(LRScheduler):
    def step(self, metrics: float) -> None:  # type: ignore[override]
        pass


class HoldsAPlateau(LRScheduler):
    def __init__(self, optimizer: Optimizer) -> None:
        self.plateau = ReduceLROnPlateau(optimizer)
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        return list(self.base_lrs)


REFUSED: dict[str, tuple[Make, str]] = {
    "model": (lambda o: FollowsTheModel(o, torch.nn.Linear(2, 2)), "FollowsTheModel.*Parameter"),
    "state": (FollowsTheState, "FollowsTheState.*state"),
    "parameters": (FollowsTheParameters, "FollowsTheParameters.*parameters"),
    "plateau inside": (HoldsAPlateau, "HoldsAPlateau.*ReduceLROnPlateau"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_follows_the_training_stays_on_the_host(name: str) -> None:
    make, match = REFUSED[name]
    for wrap in (lambda o: make(o), lambda o: ChainedScheduler([StepLR(o, 3), make(o)])):
        scheduler = wrap(opt := optimizer())
        before = copy.deepcopy(opt.param_groups)
        with pytest.raises(TypeError, match=rf"{match}.*group\[\"lr\"\]"):
            from_torch(scheduler, steps=9)
        with pytest.raises(TypeError, match=rf"{match}.*group\[\"lr\"\]"):
            convert(opt, scheduler, steps=9)
        assert repr(opt.param_groups) == repr(before)


def test_a_step_that_needs_a_metric_is_refused() -> None:
    scheduler = FollowsAMetric.__new__(FollowsAMetric)
    scheduler.optimizer = opt = optimizer()
    with pytest.raises(TypeError, match=r"FollowsAMetric.*metrics"):
        from_torch(scheduler, steps=9)
    with pytest.raises(TypeError, match=r"FollowsAMetric.*metrics"):
        convert(opt, scheduler, steps=9)


def test_a_model_that_is_only_held_is_no_matter() -> None:
    class Holds(DropsAfter100Calls):
        def __init__(self, optimizer: Optimizer, model: torch.nn.Module) -> None:
            self.model = model
            super().__init__(optimizer)

    schedule = from_torch(Holds(optimizer(), torch.nn.Linear(2, 2)), steps=120)
    assert schedule(100) == pytest.approx(0.1)


class MovesWeightDecay(LRScheduler):
    def get_lr(self) -> list[Any]:
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.1 / (1 + self.last_epoch)
        return list(self.base_lrs)


class MovesMomentum(LRScheduler):
    def get_lr(self) -> list[Any]:
        for group in self.optimizer.param_groups:
            group["momentum"] = 0.9 - 0.01 * self.last_epoch
        return list(self.base_lrs)


@pytest.mark.parametrize(
    ("make", "what"), [(MovesWeightDecay, "weight_decay"), (MovesMomentum, "momentum")]
)
def test_other_options_that_move_are_not_forgotten(make: Make, what: str) -> None:
    scheduler = make(opt := optimizer())
    with pytest.raises(ValueError, match=rf"{make.__name__} moves {what}.*group"):  # type: ignore[attr-defined]
        from_torch(scheduler, steps=9)
    with pytest.raises(ValueError, match=rf"moves {what}"):
        convert(opt, scheduler, steps=9)
