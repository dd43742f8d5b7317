"""Lightning: rates that LearningRateMonitor logs, resuming, accumulation and precision."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
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
