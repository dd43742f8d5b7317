"""Lightning: rates that LearningRateMonitor logs, resuming, accumulation and precision."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import (
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from twins import OPTIONS, SCHEDULE, assert_same, build, data, model


class Net(L.LightningModule):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.net, self.fused = model(), fused

    def training_step(self, batch: Any, index: int) -> Tensor:
        return cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        opt, scheduler = build(self.net, self.fused)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Rates(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rates += [value for name, value in metrics.items() if name == "lr-SGD"]


def fit(
    folder: Path, fused: bool, epochs: int = 2, resume: Path | None = None, **options: Any
) -> tuple[Net, list[float], Path]:
    logger, net = Rates(), Net(fused)
    checkpoint = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=logger, log_every_n_steps=1,
        callbacks=[LearningRateMonitor("step"), checkpoint], default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(net, DataLoader(data(), batch_size=8), ckpt_path=resume)
    return net, logger.rates, folder / "epoch=0.ckpt"


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}, {"gradient_clip_val": 0.5}],
    ids=str,
)
def test_is_torchs_run_and_logs_its_rates(tmp_path: Path, options: dict[str, Any]) -> None:
    ours, rates, _ = fit(tmp_path / "ours", True, **options)
    theirs, expected, _ = fit(tmp_path / "theirs", False, **options)
    assert_same(ours, theirs)
    assert rates == pytest.approx(expected, rel=1e-12)
    assert rates[0] == OPTIONS["lr"] * SCHEDULE(0)
    assert len(set(rates)) > 6


def test_resumes(tmp_path: Path) -> None:
    whole, rates, middle = fit(tmp_path / "a", True)
    resumed, rest, _ = fit(tmp_path / "b", True, resume=middle)
    assert torch.equal(resumed.net[0].weight, whole.net[0].weight)
    assert rest == rates[-len(rest) :]
    assert resumed.optimizers().steps_applied == 16  # type: ignore[union-attr]


# What docs/coming_from/trainers.md says of what takes the scheduler's place.


class Noted(Net):
    """Notes the rates of its steps; turns to weight averaging as the docs say."""

    def __init__(self, fused: bool, averages_from: int | None = None) -> None:
        super().__init__(fused)
        self.rates: list[float] = []
        self.averages_from, self.lr = averages_from, OPTIONS["lr"]

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()
        opt = configured["optimizer"]
        if self.fused:
            opt.register_step_post_hook(lambda o, *_: self.rates.append(o.get_last_lr()[0]))
            return opt
        opt.register_step_post_hook(lambda o, *_: self.rates.append(o.param_groups[0]["lr"]))
        return configured

    def on_train_epoch_end(self) -> None:
        if self.fused and self.averages_from == self.current_epoch + 2:
            opt = self.trainer.optimizers[0]
            rates = opt.scheduler().get_last_lr()  # type: ignore[attr-defined]
            for group, lr in zip(opt.param_groups, rates, strict=True):
                group["lr"], group["schedule"] = lr, None


def noted(net: Noted, folder: Path, callback: Any, epochs: int) -> list[float]:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False,
        callbacks=[callback], default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(net, DataLoader(data(), batch_size=8))
    return net.rates


def test_weight_averaging_has_torchs_rates(tmp_path: Path) -> None:
    ours, theirs = (
        noted(
            Noted(fused, averages_from=2),
            tmp_path,
            StochasticWeightAveraging(0.01, swa_epoch_start=2, annealing_epochs=2),
            epochs=4,
        )
        for fused in (True, False)
    )
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert len(ours) == 32
    assert ours[-1] == pytest.approx(0.01)


class Finder(LearningRateFinder):
    def lr_find(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        with trainer.optimizers[0].without_schedules():  # type: ignore[attr-defined]
            super().lr_find(trainer, module)


def test_the_rate_finder_has_torchs_rates_and_training_too(tmp_path: Path) -> None:
    ours = noted(Noted(True), tmp_path, Finder(1e-3, 1.0, num_training_steps=6), epochs=2)
    finder = LearningRateFinder(1e-3, 1.0, num_training_steps=6)
    theirs = noted(Noted(False), tmp_path, finder, epochs=2)
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert ours[6:] == pytest.approx([OPTIONS["lr"] * SCHEDULE(t) for t in range(16)])
