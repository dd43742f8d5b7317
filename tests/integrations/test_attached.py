"""Attached schedules in Lightning and Accelerate, end to end: torch's runs, logged and resumed."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from twins import SCHEDULE, accelerated_epoch, assert_same, data, model

from fused_warmup import attach

MAKERS = {"on the device": partial(torch.optim.AdamW, fused=True), "as numbers": torch.optim.AdamW}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def build(net: nn.Module, make: Any, attached: bool) -> tuple[Any, Any]:
    """An optimizer and its scheduler."""
    optimizer = make(net.parameters(), lr=0.05)
    if attached:
        return optimizer, attach(optimizer, SCHEDULE).scheduler()
    return optimizer, LambdaLR(optimizer, lambda t: SCHEDULE(t))


class Net(L.LightningModule):
    def __init__(self, make: Any, attached: bool) -> None:
        super().__init__()
        self.net, self.make, self.attached = model(), make, attached

    def training_step(self, batch: Any, index: int) -> Tensor:
        return cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer, scheduler = build(self.net, self.make, self.attached)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class Rates(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rates += [float(value) for name, value in metrics.items() if name == "lr-AdamW"]


def fit(folder: Path, net: Net, resume: Path | None = None, **options: Any) -> list[float]:
    logger = Rates()
    checkpoint = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, logger=logger, log_every_n_steps=1,
        callbacks=[LearningRateMonitor("step"), checkpoint], default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(net, DataLoader(data(), batch_size=8), ckpt_path=resume)
    return logger.rates


@every_maker
def test_lightning(tmp_path: Path, make: Any) -> None:
    ours, theirs, resumed = (Net(make, attached) for attached in (True, False, True))
    rates = fit(tmp_path / "ours", ours, gradient_clip_val=0.5)
    expected = fit(tmp_path / "theirs", theirs, gradient_clip_val=0.5)
    assert_same(ours, theirs)
    assert rates == pytest.approx(expected, rel=1e-12)
    assert len(set(rates)) > 6
    middle = tmp_path / "ours" / "epoch=0.ckpt"
    rest = fit(tmp_path / "resumed", resumed, middle, gradient_clip_val=0.5)
    assert_same(resumed, ours)
    assert rest == rates[-len(rest) :]
    assert int(resumed.trainer.optimizers[0].param_groups[0]["steps_applied"]) == 16


def prepared(make: Any, attached: bool) -> tuple[Any, ...]:
    AcceleratorState._reset_state(True)  # one Accelerator a process, but for its own tests
    GradientState._reset_state()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = model()
    optimizer, scheduler = build(net, make, attached)
    return accelerator, *accelerator.prepare(
        net, optimizer, scheduler, DataLoader(data(), batch_size=8)
    )


@every_maker
def test_accelerate(tmp_path: Path, make: Any) -> None:
    ours, theirs = prepared(make, True), prepared(make, False)
    rates, expected = accelerated_epoch(*ours), accelerated_epoch(*theirs)
    ours[0].save_state(str(tmp_path))
    other = prepared(make, True)
    other[0].load_state(str(tmp_path))
    rest = accelerated_epoch(*ours)
    assert rates + rest == pytest.approx(expected + accelerated_epoch(*theirs), rel=1e-12)
    assert_same(ours[1], theirs[1])
    assert accelerated_epoch(*other) == rest
    assert_same(other[1], ours[1])
    assert int(other[2].param_groups[0]["steps_applied"]) == 8
