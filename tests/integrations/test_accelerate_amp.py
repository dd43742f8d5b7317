"""Accelerate's and Trainer's float16 path: a step that overflows does not advance the schedule.

Accelerate leaves float16 out on a CPU, without a word. `with_float16` gives an Accelerator what it
gives itself on a GPU; everything from there on is its own.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from overflows import OVERFLOWS, batches, factor, plain_loop
from test_trainer import Net
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments
from twins import assert_same, build, data, model


@pytest.fixture(autouse=True)
def one_accelerator() -> None:
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def with_float16(accelerator: Accelerator) -> Accelerator:
    assert accelerator.scaler is None, "Accelerate scales on CPUs now: use what it makes"
    accelerator.native_amp, accelerator.scaler = True, torch.amp.GradScaler("cpu")
    return accelerator


@pytest.mark.parametrize("unscale", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_accelerate(accumulate: int, clip: float | None, unscale: bool) -> None:
    options: dict[str, Any] = {"gradient_accumulation_steps": accumulate}
    accelerator = with_float16(Accelerator(cpu=True, mixed_precision="fp16", **options))
    net = model()
    ours, face = build(net, True, unscale=unscale)
    net, opt, scheduler = accelerator.prepare(net, ours, face)
    rates, skipped = [], 0
    for batch, (x, y) in enumerate(batches(2)):
        with accelerator.accumulate(net):
            accelerator.backward(cross_entropy(net(x), y) * factor(batch))
            if accelerator.sync_gradients:
                rates += scheduler.get_last_lr()
                if clip is not None:
                    accelerator.clip_grad_norm_(net.parameters(), clip)
            opt.step()
            scheduler.step()
            skipped += accelerator.sync_gradients and accelerator.optimizer_step_was_skipped
            opt.zero_grad()
    plain, expected, count = plain_loop(batches(2), accumulate, clip)
    assert_same(net, plain)
    assert rates == pytest.approx(expected, rel=1e-12)
    assert ours.steps_applied == count  # type: ignore[attr-defined]
    # Accelerate looks whether the optimizer was called; a fused one is, and skips by itself.
    assert skipped == (0 if unscale else 16 // accumulate - count)


class Overflowing(Trainer):
    batch = -1

    def compute_loss(self, *args: Any, **options: Any) -> Tensor:
        self.batch += 1
        return super().compute_loss(*args, **options) * factor(self.batch)


@pytest.mark.parametrize("unscale", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_trainer(tmp_path: Path, clip: float | None, unscale: bool) -> None:
    rows = [{"x": x, "labels": y} for x, y in data()]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=16, per_device_train_batch_size=8, logging_steps=1,
        save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=5, fp16=True,
        max_grad_norm=clip or 0.0,
    )  # fmt: skip
    net = Net()
    ours, face = build(net, True, unscale=unscale)
    trainer = Overflowing(net, arguments, train_dataset=rows, optimizers=(ours, face))
    with_float16(trainer.accelerator)
    seen: list[Any] = []  # Trainer shuffles
    net.register_forward_pre_hook(
        lambda _, args, inputs: seen.append((inputs["x"], inputs["labels"])), with_kwargs=True
    )
    trainer.train()
    logged = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    plain, expected, count = plain_loop(seen, clip=clip)
    assert_same(net.net, plain)
    assert logged == pytest.approx(expected, rel=1e-12)
    assert ours.steps_applied == count == 16 - len(OVERFLOWS)  # type: ignore[attr-defined]
