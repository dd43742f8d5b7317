"""What every trainer is given: one task, and an optimizer of ours or torch's twin of it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

import fused_warmup
from fused_warmup.schedules import cosine, linear_warmup

# The checkpoints that tests resume from, after six and eight steps, lie within the warm-up.
SCHEDULE = linear_warmup(9, start=0.1).then(cosine(11))
OPTIONS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}


def model() -> nn.Module:
    """The same net at each call."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def data(n: int = 64) -> list[tuple[Tensor, Tensor]]:
    """Inputs and classes, the same at each call."""
    make = torch.Generator().manual_seed(3)
    inputs = torch.randn(n, 6, generator=make)
    return [(x, (x[:3] - x[3:]).argmax()) for x in inputs]


def build(net: nn.Module, fused: bool, **own: Any) -> tuple[torch.optim.Optimizer, Any]:
    """An optimizer and its scheduler; ``own``: options that only ours has."""
    if fused:
        opt = fused_warmup.SGD(net.parameters(), schedule=SCHEDULE, **OPTIONS, **own)
        return opt, opt.scheduler()
    theirs = torch.optim.SGD(net.parameters(), foreach=False, **OPTIONS)
    return theirs, LambdaLR(theirs, lambda t: SCHEDULE(t))


def accelerated_epoch(
    accelerator: Any, net: nn.Module, opt: Any, scheduler: Any, loader: Any
) -> list[float]:
    """Train for an epoch as Accelerate's loops do, and return the rate after each batch."""
    rates: list[float] = []
    for x, y in loader:
        with accelerator.accumulate(net):
            accelerator.backward(cross_entropy(net(x), y))
            opt.step()
            scheduler.step()
            opt.zero_grad()
        rates += scheduler.get_last_lr()
    return rates


def weights(net: nn.Module) -> Tensor:
    """All parameters in one row."""
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def assert_same(a: nn.Module, b: nn.Module) -> None:
    """float32 trajectories of some twenty steps whose rates may differ in their last bits."""
    torch.testing.assert_close(weights(a), weights(b), rtol=1e-6, atol=1e-7)
