"""A step of LARS with its learning rate: ours, timm's, and timm's operations by torch's own.

timm is optional: ``pip install timm``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import contenders as who
from . import shapes
from .contenders import Contender, Step, with_scheduler
from .results import Row, Task
from .step import Settings, compare

LR = 1.0
TIMM = "timm Lars + LambdaLR"
FOREACH = "LARS by torch's foreach + LambdaLR"


def ours() -> Contender:
    """Return fused_warmup.LARS, by timm's formula."""

    def build(params: Sequence[Tensor]) -> Step:
        from fused_warmup import LARS

        from . import rates

        backend = who.our_backends(params[0].device)[0][0]
        options = {"lr_in_momentum": False, "eps": 1e-8, **who.OPTIONS}
        return LARS(params, lr=LR, schedule=rates.schedule(), backend=backend, **options).step

    return Contender("ours: LARS", build)


def timm() -> Contender:
    """Return timm's Lars, which is foreach from timm 1.0.30 on."""

    def build(params: Sequence[Tensor]) -> Step:
        from timm.optim import Lars

        return with_scheduler(Lars(params, lr=LR, **who.OPTIONS), "LambdaLR")

    return Contender(TIMM, build)


class ForeachLars(torch.optim.Optimizer):
    """The passes that LARS takes in torch's foreach operations, none of them left out."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": LR, **who.OPTIONS})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step once; there is no closure."""
        (group,) = self.param_groups
        params, grads = group["params"], [p.grad for p in group["params"]]
        decay, mu = group["weight_decay"], group["momentum"]
        sizes = torch.stack(torch._foreach_norm(params))
        slopes = torch.stack(torch._foreach_norm(grads))
        ratios = 0.001 * sizes / (slopes + decay * sizes + 1e-8)
        ratios = torch.where((sizes > 0) & (slopes > 0), ratios, 1.0)
        steps = torch._foreach_add(grads, params, alpha=decay)
        torch._foreach_mul_(steps, ratios.unbind())
        if not self.state:
            for p, first in zip(params, steps, strict=True):
                self.state[p]["momentum_buffer"] = first.clone()
            buffers = [self.state[p]["momentum_buffer"] for p in params]
        else:
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_mul_(buffers, mu)
            torch._foreach_add_(buffers, steps)
        torch._foreach_add_(params, buffers, alpha=-group["lr"])


def foreach() -> Contender:
    """Return the same without timm."""
    return Contender(FOREACH, lambda params: with_scheduler(ForeachLars(params), "LambdaLR"))


def has_timm() -> bool:
    """Whether timm can be imported here."""
    try:
        import timm.optim  # noqa: F401
    except Exception:  # it is there without what it needs
        return False
    return True


def compared() -> list[Contender]:
    """Return all that run here, ours first."""
    return [ours(), *([timm()] if has_timm() else []), foreach()]


def tasks(settings: Settings) -> list[Task]:
    """Return the cases of this part."""

    def run() -> Row:
        return compare(settings, shapes.RESNET50, compared())

    return [Task("pipelines", "LARS", run)]
