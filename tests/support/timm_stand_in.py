"""timm.scheduler.StepLRScheduler as far as it matters here, of timm 1.0; the real one needs timm.

tests/integrations/test_timm.py runs the real one.
"""

from typing import Any

from torch.optim import Optimizer


class StepLRScheduler:
    """A warm-up to the rate that was found, and from then on ``decay_rate`` every so often."""

    def __init__(
        self, optimizer: Optimizer, decay_t: int, warmup_t: int, t_in_epochs: bool = False
    ) -> None:
        self.optimizer, self.param_group_field = optimizer, "lr"
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.base_values = [group["initial_lr"] for group in optimizer.param_groups]
        self.decay_t, self.decay_rate = decay_t, 0.5
        self.warmup_t, self.warmup_lr_init, self.warmup_prefix = warmup_t, 0.01, False
        self.t_in_epochs, self.noise_range_t = t_in_epochs, None
        self._update(self._get_lr(0))

    def _get_lr(self, t: int) -> list[float]:
        if t < self.warmup_t:
            start = self.warmup_lr_init
            return [start + t * (base - start) / self.warmup_t for base in self.base_values]
        return [base * self.decay_rate ** (t // self.decay_t) for base in self.base_values]

    def step_update(self, num_updates: int) -> None:
        self._update(self._get_lr(num_updates))

    def _update(self, rates: list[Any]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * group.get("lr_scale", 1.0)


StepLRScheduler.__module__ = "timm.scheduler.step_lr"
