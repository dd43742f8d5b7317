"""A small training, by an attached schedule or by torch's scheduler, on the same inputs.

Its steps have all that moves a count: gradients that are accumulated, overflows that AMP skips, a
checkpoint, a group that comes later.
"""

import io
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from fused_warmup import Attached, attach, cosine, linear_warmup

WARMUP, STEPS = 20, 200
OVERFLOWS = (3, 20, 60, 61)
ADDED_AT = 50
SCHEDULE = linear_warmup(WARMUP, start=0.1).then(cosine(STEPS - WARMUP))

Make = Callable[..., torch.optim.Optimizer]


def factor(t: int) -> float:
    """The same schedule, as users of torch write it."""
    if t < WARMUP:
        return 0.1 + 0.9 * t / WARMUP
    return (1 + math.cos(math.pi * min(t - WARMUP, STEPS - WARMUP) / (STEPS - WARMUP))) / 2


class Training:
    """A training of two weights, and of a third from step `ADDED_AT` on.

    Args:
        make: Makes the optimizer: ``make(params, lr=...)``.
        attached: Whether a schedule is attached; else torch's LambdaLR drives the optimizer.
        compiled: The backend that the step is compiled by, if it is.
    """

    def __init__(self, make: Make, *, attached: bool, compiled: Any = None) -> None:
        torch.manual_seed(0)
        shapes = [(4, 3), (2, 4), (3, 3)]
        self.weights = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
        self.inputs = torch.randn(STEPS + len(OVERFLOWS), 2, 3)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        self.make, self.attached, self.compiled = make, attached, compiled
        self.applied: list[list[float]] = []  # the rates of each applied step
        self.n_groups = 1
        self._build()

    def _build(self) -> None:
        self.optimizer = self.make(self.weights[:2], lr=0.02)
        if self.n_groups > 1:
            self.optimizer.add_param_group(self._late_group())
        self.handle: Attached | None = None
        self.scheduler: LambdaLR | None = None
        if self.attached:
            self.handle = attach(self.optimizer, SCHEDULE)
        else:
            self.scheduler = LambdaLR(self.optimizer, factor)
        if self.compiled is not None:
            self.optimizer.step = torch.compile(self.optimizer.step, backend=self.compiled)

    def _late_group(self) -> dict[str, Any]:
        return {"params": [self.weights[2]], "lr": 0.01}

    def add_group(self) -> None:
        self.n_groups += 1
        self.optimizer.add_param_group(self._late_group())
        if self.scheduler is not None:  # torch's schedulers know no groups that come later
            group = self.optimizer.param_groups[-1]
            group["initial_lr"] = group["lr"]
            group["lr"] *= factor(self.scheduler.last_epoch)
            self.scheduler.base_lrs.append(group["initial_lr"])
            self.scheduler.lr_lambdas.append(factor)

    def save_and_load(self) -> None:
        """Go on in a new optimizer, from a file."""
        file = io.BytesIO()
        states = [self.optimizer.state_dict()]
        states += [] if self.scheduler is None else [self.scheduler.state_dict()]
        torch.save(states, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        self._build()
        self.optimizer.load_state_dict(loaded[0])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(loaded[1])

    def loss(self, i: int, half: int) -> Tensor:
        first, second, third = self.weights
        hidden = torch.tanh(self.inputs[i, half] @ first.T) @ second.T
        return hidden.square().sum() + (third.square().sum() if self.n_groups > 1 else 0.0)

    def step(self, i: int) -> None:
        self.optimizer.zero_grad()
        for half in range(2):  # accumulated
            self.scaler.scale(self.loss(i, half)).backward()
        if i in OVERFLOWS:
            assert self.weights[0].grad is not None
            self.weights[0].grad[0, 0] = torch.inf
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if i in OVERFLOWS:
            return
        if self.handle is not None:
            rates = self.handle.get_last_lr()
        self.applied.append(rates)
        if self.scheduler is not None:
            self.scheduler.step()

    def run(self, *, n: int | None = None, resume_at: int | None = None) -> "Training":
        for i in range(len(self.inputs) if n is None else n):
            if i == ADDED_AT:
                self.add_group()
            if i == resume_at:
                self.save_and_load()
            self.step(i)
        return self
