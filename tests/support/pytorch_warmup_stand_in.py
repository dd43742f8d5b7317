"""pytorch_warmup's warm-ups as far as they matter here, of 0.2.0; the real ones need the package.

tests/integrations/test_pytorch_warmup.py runs the real ones.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.optim import Optimizer


class BaseWarmup:
    """Multiplies what a scheduler has set by a factor, and puts it back before the next."""

    def __init__(self, optimizer: Optimizer, params: list[dict[str, Any]]) -> None:
        self.optimizer, self.warmup_params, self.last_step = optimizer, params, -1
        self._dampen()

    def _dampen(self) -> None:
        self.last_step += 1
        self.lrs = [group["lr"] for group in self.optimizer.param_groups]
        for group, params in zip(self.optimizer.param_groups, self.warmup_params, strict=True):
            group["lr"] = group["lr"] * self.warmup_factor(self.last_step, **params)

    @contextmanager
    def dampening(self) -> Iterator[None]:
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            group["lr"] = lr
        yield
        self._dampen()

    def warmup_factor(self, step: int, **params: Any) -> float:
        raise NotImplementedError


class LinearWarmup(BaseWarmup):
    def __init__(self, optimizer: Optimizer, periods: list[int]) -> None:
        super().__init__(optimizer, [{"warmup_period": each} for each in periods])

    def warmup_factor(self, step: int, warmup_period: int) -> float:  # type: ignore[override]
        return min((step + 1) / warmup_period, 1.0)


class ExponentialWarmup(LinearWarmup):
    def warmup_factor(self, step: int, warmup_period: int) -> float:  # type: ignore[override]
        return 1.0 - math.exp((step + 1) / -warmup_period)


class RAdamWarmup(BaseWarmup):
    """With the rectification of Liu et al. (arXiv:1908.03265), from its first step above 4 on."""

    def __init__(self, optimizer: Optimizer, beta2: float) -> None:
        self.limit = 2.0 / (1.0 - beta2) - 1.0
        super().__init__(optimizer, [{"beta2": beta2} for _ in optimizer.param_groups])

    def warmup_factor(self, step: int, beta2: float) -> float:  # type: ignore[override]
        def rho(t: int) -> float:
            return self.limit - 2.0 * t * beta2**t / (1.0 - beta2**t)

        first = next(t for t in range(1, 99) if rho(t) > 4.0)
        now, end = rho(step + first), self.limit
        return math.sqrt((now - 4) * (now - 2) * end / ((end - 4) * (end - 2) * now))


BaseWarmup.__module__ = "pytorch_warmup.base"
for cls, module in (
    (LinearWarmup, "base"), (ExponentialWarmup, "base"), (RAdamWarmup, "radam")
):  # fmt: skip
    cls.__module__ = f"pytorch_warmup.{module}"
    cls.warmup_factor.__module__ = cls.__module__
