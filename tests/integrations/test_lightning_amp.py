"""Lightning in float16 with its real scaler: a step that overflows does not advance the schedule.

Trainer turns ``precision="16-mixed"`` on a CPU into bfloat16; the plugin itself runs there.
"""

import runpy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from overflows import OVERFLOWS, batches, factor, plain_loop
from test_lightning import Net, Rates
from torch import Tensor
from torch.utils.data import DataLoader
from twins import OPTIONS, SCHEDULE, assert_same, build

EXAMPLE = Path(__file__).parents[2] / "examples" / "with_lightning.py"
DOCS = (Path(__file__).parents[2] / "docs" / "coming_from" / "trainers.md").read_text()


class Overflowing(Net):
    def __init__(self, **own: Any) -> None:
        super().__init__(True)
        self.own = own

    def training_step(self, batch: Any, index: int) -> Tensor:
        before = self.current_epoch * self.trainer.num_training_batches
        return super().training_step(batch, index) * factor(int(before) + index)

    def configure_optimizers(self) -> Any:
        opt, scheduler = build(self.net, True, **self.own)
        return {"optimizer": opt, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def fit(
    net: Net, folder: Path, inputs: Any, epochs: int = 1, resume: Path | None = None, **options: Any
) -> tuple[list[float], int]:
    """Train; return the rates that LearningRateMonitor logged and the updates applied."""
    logger = Rates()
    precision = MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu"))
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=logger, log_every_n_steps=1,
        callbacks=[
            LearningRateMonitor("step"),
            ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1),
        ],
        plugins=[precision], enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(net, DataLoader(inputs, batch_size=None), ckpt_path=resume)
    return logger.rates, trainer.optimizers[0].steps_applied  # type: ignore[attr-defined]


@pytest.mark.parametrize("unscale", [True, False])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_skipped_steps_do_not_advance_the_schedule(
    tmp_path: Path, accumulate: int, unscale: bool
) -> None:
    net, inputs = Overflowing(unscale=unscale), batches(2)
    rates, applied = fit(net, tmp_path, inputs, accumulate_grad_batches=accumulate)
    plain, expected, count = plain_loop(inputs, accumulate)
    assert_same(net.net, plain)
    each_batch = [rate for rate in expected for _ in range(accumulate)]
    assert rates == pytest.approx(each_batch, rel=1e-12)
    assert applied == count == 16 // accumulate - len({n // accumulate for n in OVERFLOWS})
    assert rates[0] == rates[accumulate]  # the first step was skipped


def test_clipping_wants_unscale_false(tmp_path: Path) -> None:
    net, inputs = Overflowing(unscale=False), batches(2)
    rates, applied = fit(net, tmp_path, inputs, gradient_clip_val=0.5)
    plain, expected, count = plain_loop(inputs, clip=0.5)
    assert_same(net.net, plain)
    assert (rates, applied) == (pytest.approx(expected, rel=1e-12), count)
    assert not torch.equal(net.net[0].weight, plain_loop(inputs)[0][0].weight)  # it did clip


class Clipping(Overflowing):
    """The hook of examples/with_lightning.py."""

    configure_gradient_clipping = runpy.run_path(str(EXAMPLE))["Net"].configure_gradient_clipping


def test_the_examples_hook_clips_in_the_step(tmp_path: Path) -> None:
    net, inputs = Clipping(), batches(2)
    rates, applied = fit(net, tmp_path, inputs, gradient_clip_val=0.5)
    plain, expected, count = plain_loop(inputs, clip=0.5)
    assert_same(net.net, plain)
    assert (rates, applied) == (pytest.approx(expected, rel=1e-12), count)


class Steady(Clipping):
    """Without the batches that overflow, which only a scaler skips."""

    training_step = Net.training_step  # type: ignore[assignment]


class LeftToLightning(Steady):
    configure_gradient_clipping = L.LightningModule.configure_gradient_clipping


def test_bfloat16_clips_as_lightning_does(tmp_path: Path) -> None:
    """Lightning's own clipping refuses optimizers that unscale in bf16-mixed, too."""
    inputs, nets = batches(2), []
    for net in (Steady(), LeftToLightning(unscale=False)):
        trainer = L.Trainer(
            accelerator="cpu", precision="bf16-mixed", gradient_clip_val=0.5, max_epochs=1,
            logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(net, DataLoader(inputs, batch_size=None))
        nets.append(net.net)
    assert_same(*nets)


def test_clipping_without_it_is_refused_by_lightning(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="SGD, does not allow for gradient clipping"):
        fit(Overflowing(), tmp_path, batches(1), gradient_clip_val=0.5)
    remedy = next(line for line in DOCS.split("\n- ") if "gradient_clip_val" in line)
    assert "16-mixed" in remedy
    assert "bf16-mixed" in remedy
    assert "`unscale=False`" in remedy


def test_resumes_in_mid_warm_up_after_a_skipped_step(tmp_path: Path) -> None:
    four = batches(1)[:4]
    whole, resumed = Overflowing(), Overflowing()
    rates, applied = fit(whole, tmp_path / "a", four, epochs=3)
    checkpoint = tmp_path / "a" / "epoch=0.ckpt"
    rest, again = fit(resumed, tmp_path / "b", four, epochs=3, resume=checkpoint)
    assert rest == rates[4:]
    assert rest[0] == OPTIONS["lr"] * SCHEDULE(2)  # of the first four steps two were skipped
    assert again == applied == 12 - len(OVERFLOWS)
    assert torch.equal(resumed.net[0].weight, whole.net[0].weight)
