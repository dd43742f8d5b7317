"""timm: `create_optimizer_v2` through its registry."""

from typing import Any

import pytest
import timm
import torch
from timm.optim import OptimInfo, create_optimizer_v2
from timm.optim._optim_factory import default_registry
from timm.scheduler import StepLRScheduler
from timm.utils import ModelEmaV3
from torch.nn.functional import cross_entropy

import fused_warmup
from fused_warmup import convert, from_super_gradients, from_timm
from fused_warmup.schedules import ema_power, linear_warmup


def train(opt: torch.optim.Optimizer, net: Any, after: Any = lambda t: None) -> list[float]:
    make, rates = torch.Generator().manual_seed(2), []
    for t in range(4):
        images = torch.randn(4, 3, 32, 32, generator=make)
        opt.zero_grad()
        cross_entropy(net(images), torch.arange(4)).backward()
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        after(t)
    return rates


def network() -> Any:
    torch.manual_seed(1)
    return timm.create_model("resnet10t", num_classes=4)


def test_is_made_by_name() -> None:
    default_registry.register(
        OptimInfo("fusedwarmup", fused_warmup.SGD, "SGD, warm-up included", has_momentum=True)
    )
    options = {"lr": 0.05, "weight_decay": 1e-3, "momentum": 0.9}
    net, twin = network(), network()
    schedule = linear_warmup(3, start=0.1)
    ours = create_optimizer_v2(net, "fusedwarmup", schedule=schedule, nesterov=True, **options)
    theirs = create_optimizer_v2(twin, "sgd", **options)  # timm's "sgd" is Nesterov's
    assert type(ours) is fused_warmup.SGD
    decays = [group["weight_decay"] for group in ours.param_groups]
    assert decays == [group["weight_decay"] for group in theirs.param_groups] == [0.0, 1e-3]

    scheduler = StepLRScheduler(theirs, 1, 1.0, warmup_t=3, warmup_lr_init=0.005, t_in_epochs=False)
    assert from_timm(scheduler)(range(4)) == schedule(range(4))
    train(ours, net)
    train(theirs, twin, lambda t: scheduler.step_update(t + 1))
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_convert_takes_its_optimizer_and_scheduler() -> None:
    """The optimizer holds the warm-up's rate by then."""
    runs = []
    for _ in range(2):
        net = network()
        opt = create_optimizer_v2(net, "sgd", lr=0.05, weight_decay=1e-3, momentum=0.9)
        scheduler = StepLRScheduler(
            opt, 2, 0.5, warmup_t=2, warmup_lr_init=0.005, t_in_epochs=False
        )
        runs.append((net, opt, scheduler))
    (net, opt, scheduler), (twin, theirs, other) = runs
    fused = convert(opt, scheduler)
    train(fused, net)
    train(theirs, twin, lambda t: other.step_update(t + 1))
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("foreach", [False, True])
def test_averages_are_those_of_model_ema(foreach) -> None:
    options = {"use_warmup": True, "warmup_gamma": 2.0, "warmup_power": 0.75}
    net = torch.nn.Sequential(torch.nn.Linear(7, 33), torch.nn.Linear(33, 4))
    theirs = ModelEmaV3(net, decay=0.7, update_after_step=2, foreach=foreach, **options)
    schedule = ema_power(0.7, gamma=2.0, power=0.75, after=2)
    opt = fused_warmup.SGD(net.parameters(), lr=0.1, ema_decay=0.7, ema_schedule=schedule)
    for t in range(8):
        opt.zero_grad()
        images = torch.randn(4, 7, generator=torch.Generator().manual_seed(t))
        cross_entropy(net(images), torch.arange(4)).backward()
        opt.step()
        theirs.update(net, step=t + 1)
        # Weights that differ by the last bit of a float32, at most.
        for p, ema in zip(net.parameters(), theirs.module.parameters(), strict=True):
            torch.testing.assert_close(opt.state[p]["ema"], ema, rtol=2.0**-22, atol=2.0**-26)


@pytest.mark.parametrize("name", ["RMSpropTF", "Lamb", "Lion"])
def test_recipes_of_super_gradients_have_its_optimizers(name: str) -> None:
    params = {"initial_lr": 0.01, "max_epochs": 2, "lr_mode": "poly", "lr_warmup_epochs": 1}
    recipe = from_super_gradients({**params, "optimizer": name}, steps_per_epoch=2)
    net = network()
    opt = recipe.optimizer(net)
    assert type(opt) is getattr(timm.optim, name)
    rates = []
    train(opt, net, lambda t: rates.append(opt.param_groups[0]["lr"]))
    assert rates == [recipe.lr_at(t) for t in range(4)]
