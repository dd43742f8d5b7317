"""What the example's script sees of SuperGradients 3.7.1.

The package itself is not installed for tests: it pins onnx 1.15 and torchmetrics 0.8. Its Trainer
(training/sg_trainer/sg_trainer.py) takes an optimizer by name or class, gives its one group
initial_lr, and sets the rate in callbacks: a warm-up when an epoch starts, a cosine after each
step. The rates are checked against those that were recorded from the package.
"""

import inspect
import math
from typing import Any

import torch
from torch import nn


class Accuracy:
    """A metric that nobody asks."""


class Trainer:
    def __init__(self, experiment_name: str, ckpt_root_dir: str) -> None:
        self.experiment_name, self.ckpt_root_dir = experiment_name, ckpt_root_dir

    def train(
        self, model: nn.Module, training_params: Any, train_loader: Any, valid_loader: Any
    ) -> None:
        params = {"cosine_final_lr_ratio": 0.01, **training_params}
        missing = {"max_epochs", "lr_mode", "initial_lr", "loss"} - set(params)
        assert not missing, f"the Trainer demands {missing}"
        cls = torch.optim.SGD if params["optimizer"] == "SGD" else params["optimizer"]
        assert inspect.isclass(cls)
        assert issubclass(cls, torch.optim.Optimizer)
        group = {"params": list(model.parameters()), "lr": params["initial_lr"], "name": "default"}
        opt = cls([group], **params["optimizer_params"])
        loss = getattr(nn, params["loss"])()
        for epoch in range(params["max_epochs"]):
            self._warm_up(opt, params, epoch)
            for batch, (x, y) in enumerate(train_loader):
                loss(model(x), y).backward()
                opt.step()
                opt.zero_grad()
                self._decay(opt, params, epoch, batch, len(train_loader))

    def _warm_up(self, opt: Any, params: Any, epoch: int) -> None:
        length, peak = params["lr_warmup_epochs"], params["initial_lr"]
        if length > 0 and epoch <= length:
            start = peak / (1 + length)
            self._set(opt, start + epoch * (peak - start) / length)

    def _decay(self, opt: Any, params: Any, epoch: int, batch: int, batches: int) -> None:
        if params["lr_mode"] is None or epoch < params["lr_warmup_epochs"]:
            return
        assert params["lr_mode"] == "CosineLRScheduler"
        first = params["lr_warmup_epochs"]
        x = ((epoch - first) * batches + batch) / ((params["max_epochs"] - first) * batches + 1)
        low = params["cosine_final_lr_ratio"]
        self._set(opt, params["initial_lr"] * (low + (1 - low) * (1 + math.cos(math.pi * x)) / 2))

    def _set(self, opt: Any, lr: float) -> None:
        for group in opt.param_groups:
            group["lr"] = lr
