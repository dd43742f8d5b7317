"""SuperGradients 3.7.1's training loop as far as it moves rates, restated from its source.

The package itself is not installed for tests: it pins onnx 1.15 and torchmetrics 0.8. Restated from
training/sg_trainer/sg_trainer.py (the order of events) and training/utils/callbacks/callbacks.py
(what happens at each). Rates of the formulas are checked against recorded ones elsewhere; this is
for what was not recorded: torch's schedulers, other optimizers, skipped steps.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch


class Trainer:
    """Rates of an optimizer over ``batches`` an epoch.

    Args:
        params: The training parameters; ``initial_lr`` a number.
        optimizer: An optimizer of torch or anybody, whose groups have ``initial_lr`` for rate.
        batches: Batches of an epoch.
    """

    def __init__(self, params: dict[str, Any], optimizer: Any, batches: int) -> None:
        self.params = {"lr_warmup_epochs": 0, "lr_warmup_steps": 0, "lr_cooldown_epochs": 0}
        self.params |= {"warmup_mode": "LinearEpochLRWarmup", "batch_accumulate": 1, **params}
        self.optimizer, self.batches = optimizer, batches
        self.peak = self.params["initial_lr"]
        mode = self.params.get("lr_mode")
        self.scheduler: Any = None
        if isinstance(mode, dict):
            ((name, given),) = mode.items()
            kwargs = {key: it for key, it in given.items() if key not in ("phase", "metric_name")}
            self.phase = given["phase"]
            self.scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **kwargs)
        else:
            self.mode = mode

    def steps(self, backward: Callable[[int], object]) -> Iterator[int]:
        """Yield the index of each step before it is taken, in the middle of its batch."""
        accumulate, taken = self.params["batch_accumulate"], 0
        for epoch in range(self.params["max_epochs"]):
            self._epoch_starts(epoch)
            for batch in range(self.batches):
                self._batch_starts(epoch, batch)
                self._torch("TRAIN_BATCH_END", epoch)
                backward(epoch * self.batches + batch)
                if (epoch * self.batches + batch + 1) % accumulate == 0:
                    yield taken
                    taken += 1
                    self._torch("TRAIN_BATCH_STEP", epoch)
                    self._stepped(epoch, batch)
            self._torch("TRAIN_EPOCH_END", epoch)
            self._torch("VALIDATION_EPOCH_END", epoch)

    def rates(self) -> list[float]:
        """Return the rate of every step; nothing is trained."""
        self.optimizer._opt_called = True  # else torch warns of the order
        return [self.optimizer.param_groups[0]["lr"] for _ in self.steps(lambda _: None)]

    def _set(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _epoch_starts(self, epoch: int) -> None:
        length, first = self.params["lr_warmup_epochs"], self.params.get("warmup_initial_lr")
        if self.params["warmup_mode"] == "LinearEpochLRWarmup" and 0 < length >= epoch:
            first = self.peak / (length + 1) if first is None else first
            self._set(first + epoch * (self.peak - first) / length)
        self._torch("TRAIN_EPOCH_START", epoch)

    def _batch_starts(self, epoch: int, batch: int) -> None:
        length = min(self.params["lr_warmup_steps"], self.batches)
        at = epoch * self.batches + batch
        if self.params["warmup_mode"] == "LinearBatchLRWarmup" and at < length:
            first = self.params["warmup_initial_lr"]
            self._set(first + (self.peak - first) * at / max(length - 1, 1))

    def _torch(self, phase: str, epoch: int) -> None:
        is_time = self.scheduler is not None and self.phase == phase
        if is_time and self.params["lr_warmup_epochs"] <= epoch:
            self.scheduler.step()

    def _stepped(self, epoch: int, batch: int) -> None:
        """Cosine and Poly, which the trajectories of other optimizers are checked with."""
        warmup, cooldown = self.params["lr_warmup_epochs"], self.params["lr_cooldown_epochs"]
        last = self.params["max_epochs"] - cooldown
        if self.scheduler is not None or self.mode is None or not warmup <= epoch < last:
            return
        at = (epoch - warmup) * self.batches + batch
        length = (last - warmup) * self.batches
        if self.mode == "PolyLRScheduler":
            self._set(self.peak * (1 - at / length) ** 0.9)
        else:
            low = self.params.get("cosine_final_lr_ratio", 0.01)
            half = 0.5 * (1 + math.cos(math.pi * at / (length + 1)))
            self._set(self.peak * (half * (1 - low) + low))
