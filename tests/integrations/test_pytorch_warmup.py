"""from_pytorch_warmup and convert beside pytorch_warmup's own warm-ups, step by step."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_warmup
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from fused_warmup import convert, from_pytorch_warmup, from_torch

OF_ADAM: dict[str, Callable[[Any], Any]] = {
    "linear": lambda o: pytorch_warmup.LinearWarmup(o, 20),
    "of each group": lambda o: pytorch_warmup.LinearWarmup(o, [20, 7]),
    "exponential": lambda o: pytorch_warmup.ExponentialWarmup(o, 20),
    "untuned linear": pytorch_warmup.UntunedLinearWarmup,
    "untuned exponential": pytorch_warmup.UntunedExponentialWarmup,
    "RAdam's": pytorch_warmup.RAdamWarmup,
}


def groups() -> list[dict[str, Any]]:
    return [
        {"params": [torch.ones(1, requires_grad=True)], "lr": lr, "betas": (0.9, beta2)}
        for lr, beta2 in ((0.1, 0.99), (0.3, 0.9))
    ]


@pytest.mark.parametrize("name", OF_ADAM)
def test_over_a_scheduler(name: str) -> None:
    opt = torch.optim.AdamW(groups())
    opt._opt_called = True  # type: ignore[attr-defined]
    scheduler = CosineAnnealingLR(opt, 40, 0.001)
    warmup = OF_ADAM[name](opt)
    found = [
        from_torch(scheduler, group=i) * from_pytorch_warmup(warmup, group=i) for i in range(2)
    ]
    for t in range(150):
        for group, schedule in zip(opt.param_groups, found, strict=True):
            expected = pytest.approx(group["lr"], rel=1e-12, abs=1e-15)
            assert group["initial_lr"] * schedule(t) == expected, t
        with warmup.dampening():
            scheduler.step()


@pytest.mark.filterwarnings("ignore:the learning rate was set of a torch.optim.SGD")
@pytest.mark.parametrize("name", ["linear", "of each group", "exponential"])
def test_convert_goes_on(name: str) -> None:
    opt = torch.optim.SGD([{k: v for k, v in g.items() if k != "betas"} for g in groups()])
    opt._opt_called = True  # type: ignore[attr-defined]
    scheduler, warmup = CosineAnnealingLR(opt, 40, 0.001), OF_ADAM[name](opt)
    for _ in range(5):
        with warmup.dampening():
            scheduler.step()
    fused = convert(opt, [scheduler, warmup])
    assert fused.steps_applied == 5
    for _ in range(60):
        for group in fused.param_groups:
            group["params"][0].grad = torch.ones(1)
        fused.step()
        expected = [group["lr"] for group in opt.param_groups]
        assert fused.get_last_lr() == pytest.approx(expected, rel=1e-12, abs=1e-15)
        with warmup.dampening():
            scheduler.step()
