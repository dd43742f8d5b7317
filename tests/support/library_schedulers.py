"""Schedulers of other libraries, restated as far as their rates go, and cases to build them by.

After ildoonet's warmup-scheduler 0.3 and its successor on GitHub (7021d63), katsura-jp's
cosine-annealing-with-warmup (12d03c0) and Lightning Bolts 0.7.0. The real one of the first runs in
tests/integrations/test_libraries.py.
"""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    StepLR,
)


class GradualWarmupScheduler(LRScheduler):
    """A ramp until ``total_epoch`` is passed; what follows is stepped in its place from then on."""

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: float,
        total_epoch: float,
        after_scheduler: Any = None,
    ) -> None:
        self.multiplier, self.total_epoch = multiplier, total_epoch
        self.after_scheduler, self.finished = after_scheduler, False
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        tops = [base * self.multiplier for base in self.base_lrs]
        if self.last_epoch <= self.total_epoch:
            x = self.last_epoch / self.total_epoch
            lows = self.base_lrs if self.multiplier != 1.0 else [0.0] * len(tops)
            return [low + (top - low) * x for low, top in zip(lows, tops, strict=True)]
        if not self.after_scheduler:
            return tops
        if not self.finished:
            self.after_scheduler.base_lrs, self.finished = tops, True
        return self._first_after()

    def _first_after(self) -> Any:
        return self.after_scheduler.get_lr()

    def step(self, epoch: Any = None, metrics: Any = None) -> None:
        if self.finished and self.after_scheduler:
            self.after_scheduler.step(None)
        else:
            super().step(epoch)


class FromGitHub(GradualWarmupScheduler):
    """The same class after its release: what follows begins at the rate that it was built with."""

    def _first_after(self) -> Any:
        return self.after_scheduler.get_last_lr()

    def step(self, epoch: Any = None, metrics: Any = None) -> None:
        ruled = self.finished and self.after_scheduler
        super().step(epoch)
        if ruled:
            self.last_epoch = self.total_epoch + 1 + self.after_scheduler.last_epoch
            self._last_lr = self.after_scheduler.get_last_lr()


class CosineAnnealingWarmupRestarts(LRScheduler):
    """Cycles between ``min_lr`` and ``max_lr``; no other rate of the optimizer's matters."""

    def __init__(
        self,
        optimizer: Optimizer,
        first_cycle_steps: int,
        cycle_mult: float = 1.0,
        max_lr: float = 0.1,
        min_lr: float = 0.001,
        warmup_steps: int = 0,
        gamma: float = 1.0,
    ) -> None:
        self.first_cycle_steps = self.cur_cycle_steps = first_cycle_steps
        self.cycle_mult, self.gamma, self.warmup_steps = cycle_mult, gamma, warmup_steps
        self.base_max_lr = self.max_lr = max_lr
        self.min_lr, self.cycle, self.step_in_cycle = min_lr, 0, -1
        super().__init__(optimizer)
        self.init_lr()

    def init_lr(self) -> None:
        self.base_lrs = [self.min_lr for _ in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = self.min_lr

    def get_lr(self) -> list[Any]:
        n = self.step_in_cycle - self.warmup_steps
        if n < 0:
            height = self.step_in_cycle / self.warmup_steps
        else:
            x = n / (self.cur_cycle_steps - self.warmup_steps)
            height = (1 + math.cos(math.pi * x)) / 2
        return [low + (self.max_lr - low) * height for low in self.base_lrs]

    def step(self, epoch: Any = None) -> None:
        self.last_epoch += 1
        self.step_in_cycle += 1
        if self.step_in_cycle >= self.cur_cycle_steps:
            self.cycle, self.step_in_cycle = (
                self.cycle + 1,
                self.step_in_cycle - self.cur_cycle_steps,
            )
            falling = self.cur_cycle_steps - self.warmup_steps
            self.cur_cycle_steps = int(falling * self.cycle_mult) + self.warmup_steps
        self.max_lr = self.base_max_lr * self.gamma**self.cycle
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class LinearWarmupCosineAnnealingLR(LRScheduler):
    """Increments up to the base rate, then the recursion of torch's CosineAnnealingLR."""

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_epochs: int,
        max_epochs: int,
        warmup_start_lr: float = 0.0,
        eta_min: float = 0.0,
    ) -> None:
        self.warmup_epochs, self.max_epochs = warmup_epochs, max_epochs
        self.warmup_start_lr, self.eta_min = warmup_start_lr, eta_min
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        pairs = zip(self.base_lrs, self.optimizer.param_groups, strict=True)
        return [self._next(base, group["lr"]) for base, group in pairs]

    def _next(self, base: Any, now: Any) -> Any:
        n, half = self.last_epoch - self.warmup_epochs, self.max_epochs - self.warmup_epochs
        if self.last_epoch == 0:
            return self.warmup_start_lr
        if n < 0:
            return now + (base - self.warmup_start_lr) / (self.warmup_epochs - 1)
        if n == 0:
            return base
        if (n - half - 1) % (2 * half) == 0:
            return now + (base - self.eta_min) * (1 - math.cos(math.pi / half)) / 2
        before, here = (1 + math.cos(math.pi * k / half) for k in (n - 1, n))
        return self.eta_min + (now - self.eta_min) * here / before


GradualWarmupScheduler.__module__ = "warmup_scheduler.scheduler"
FromGitHub.__module__ = GradualWarmupScheduler.__module__
FromGitHub.__qualname__ = FromGitHub.__name__ = GradualWarmupScheduler.__name__
CosineAnnealingWarmupRestarts.__module__ = "cosine_annealing_warmup.scheduler"
LinearWarmupCosineAnnealingLR.__module__ = "pl_bolts.optimizers.lr_scheduler"

Make = Callable[[Optimizer], Any]


def gradual(cls: Any = GradualWarmupScheduler) -> dict[str, Make]:
    """ildoonet's, with each kind of scheduler after it."""
    return {
        "alone": lambda o: cls(o, 8.0, 5),
        "from 0": lambda o: cls(o, 1.0, 5),
        "longer than the run": lambda o: cls(o, 2.0, 500, StepLR(o, 3, 0.5)),
        "a part of an epoch": lambda o: cls(o, 2.0, 2.5, StepLR(o, 3, 0.5)),
        "over before it begins": lambda o: cls(o, 2.0, -1, ExponentialLR(o, 0.9)),
        "then StepLR": lambda o: cls(o, 1.0, 5, StepLR(o, 10, 0.1)),
        "then MultiStepLR": lambda o: cls(o, 4.0, 5, MultiStepLR(o, [3, 20], 0.1)),
        "then ExponentialLR": lambda o: cls(o, 4.0, 5, ExponentialLR(o, 0.9)),
        "then LinearLR": lambda o: cls(o, 4.0, 5, LinearLR(o, 0.5, total_iters=10)),
        "then CosineAnnealingLR": lambda o: cls(o, 8.0, 10, CosineAnnealingLR(o, 20, 0.001)),
        "then CosineAnnealingWarmRestarts": lambda o: cls(
            o, 2.0, 4, CosineAnnealingWarmRestarts(o, 6, 2, 0.001)
        ),
        "then itself": lambda o: cls(o, 2.0, 3, cls(o, 2.0, 4, CosineAnnealingLR(o, 20))),
    }


def restarts(options: dict[str, Any]) -> Make:
    return lambda o: CosineAnnealingWarmupRestarts(o, **options)


def warmup_cosine(*options: Any) -> Make:
    return lambda o: LinearWarmupCosineAnnealingLR(o, *options)


RESTARTS: list[dict[str, Any]] = [
    {"first_cycle_steps": 20, "warmup_steps": 5},
    {"first_cycle_steps": 20, "max_lr": 0.4, "min_lr": 0.002},
    {"first_cycle_steps": 20, "warmup_steps": 5, "gamma": 0.5, "min_lr": 0.0},
    {"first_cycle_steps": 8, "warmup_steps": 3, "gamma": 0.5, "cycle_mult": 2.0},
    {"first_cycle_steps": 9, "gamma": 0.7, "cycle_mult": 1.5},
    {"first_cycle_steps": 5, "warmup_steps": 4, "cycle_mult": 1.9},
]
COSINES = [(10, 40), (10, 40, 0.01, 0.002), (1, 15), (2, 15, 0.3), (0, 20, 0.05, 0.002), (5, 6)]
CASES: dict[str, Make] = {
    **{f"gradual, {name}": make for name, make in gradual().items()},
    **{
        f"gradual of GitHub, {name}": make
        for name, make in gradual(FromGitHub).items()
        if name.startswith("then ")
    },
    **{f"restarts {options}": restarts(options) for options in RESTARTS},
    **{f"warm-up and cosine {options}": warmup_cosine(*options) for options in COSINES},
}
"""Those that have a closed form for ever."""
CUT: dict[str, Make] = {
    "gradual, then a function": lambda o: GradualWarmupScheduler(
        o, 4.0, 5, LambdaLR(o, lambda t: 0.95**t)
    ),
    "restarts that shrink": lambda o: CosineAnnealingWarmupRestarts(
        o, 30, 0.7, warmup_steps=4, gamma=0.9
    ),
    "restarts that fall short": lambda o: CosineAnnealingWarmupRestarts(
        o, 8, warmup_steps=3, gamma=0.5
    ),
    "restarts that hardly grow": lambda o: CosineAnnealingWarmupRestarts(o, 20, 1.1),
}
"""Those that need the length of the training."""
