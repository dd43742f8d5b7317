"""A training step as users of torch write it: its SGD, float32 copies, lerp, a ratio of norms."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fused_warmup._backend.extras import widened

OF_SGD = ("momentum", "dampening", "nesterov", "foreach")


class Pieces:
    """Trains copies of parameters by `torch.optim.SGD` and what goes around it.

    Args:
        params: The parameters, which stay as they are.
        options: Those of `SGD` or, with ``"adapt"`` among them, of `LARS`, without schedules.

    Attributes:
        params: The copies, rounded to their dtype after each step.
        emas: Their averages.
    """

    def __init__(self, params: Sequence[Tensor], options: Mapping[str, Any]) -> None:
        self.options = options
        self.dtypes = [p.dtype for p in params]
        self.params = [p.detach().clone() for p in params]
        self.wide = [p.to(widened(p.dtype), copy=True).requires_grad_() for p in self.params]
        self.emas = [p.detach().clone() for p in self.wide]
        sgd = {name: options[name] for name in OF_SGD if name in options}
        self.opt = torch.optim.SGD(self.wide, lr=1.0, **sgd)
        self.t = 0

    def step(self, grads: Sequence[Tensor]) -> None:
        """Update with unscaled gradients, each tensor at its own rate."""
        options = self.options
        for p, own, grad in zip(self.wide, self.params, grads, strict=True):
            if not options.get("master_weights"):
                p.data.copy_(own)
            g = grad.to(p.dtype)
            d = (-g if options["maximize"] else g).add(p.detach(), alpha=options["weight_decay"])
            inside, self.opt.param_groups[0]["lr"] = self.rates(p.detach(), g)
            p.grad = d if inside is None else d * inside
        self.opt.step()
        for i, p in enumerate(self.wide):
            self.params[i] = p.detach().to(self.dtypes[i])
            buffer = self.opt.state[p].get("momentum_buffer")
            if buffer is not None and not options.get("master_weights"):
                buffer.copy_(buffer.to(self.dtypes[i]))
        self.average()
        self.t += 1

    def rates(self, p: Tensor, g: Tensor) -> tuple[float | None, float]:
        """Return the factor on a gradient, and that on what becomes of it."""
        options, lr = self.options, self.options["lr"]
        if "adapt" not in options:
            return None, lr
        ratio, size = 1.0, g.double().norm().item()
        if options["adapt"] and size > 0 and p.double().norm().item() > 0:
            norm = p.double().norm().item()
            ratio = options["trust_coefficient"] * norm / (size + options["weight_decay"] * norm)
            ratio = min(ratio / lr, 1.0) if options["trust_clip"] else ratio
        return (lr * ratio, 1.0) if options["lr_in_momentum"] else (ratio, lr)

    def average(self) -> None:
        """Update the averages as `torch.optim.swa_utils.AveragedModel` does, from a start on."""
        options = self.options
        if options.get("ema_decay") is None:
            return
        start, every = options.get("ema_start"), options.get("ema_every", 1)
        first = None if start is None else -(-start // every) * every
        for ema, p, own in zip(self.emas, self.wide, self.params, strict=True):
            seen = p.detach() if options.get("master_weights") else own.to(ema.dtype)
            if first is not None and self.t <= first:
                ema.copy_(seen)
            elif self.t % every == 0:
                ema.lerp_(seen, 1 - options["ema_decay"])
