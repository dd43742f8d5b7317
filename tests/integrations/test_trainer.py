"""Hugging Face's Trainer: `optimizers=(opt, opt.scheduler())`, its log and resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.before_after import check_pair
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments
from twins import OPTIONS, SCHEDULE, assert_same, build, data, model, weights


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = model()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": cross_entropy(self.net(x), labels)}


def train(
    folder: Path, fused: bool, resume: str | None = None, **options: Any
) -> tuple[Net, list[float], Trainer]:
    net = Net()
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=14, per_device_train_batch_size=8, logging_steps=1,
        save_steps=6, report_to=[], use_cpu=True, disable_tqdm=True, seed=5, **options,
    )  # fmt: skip
    rows = [{"x": x, "labels": y} for x, y in data()]
    trainer = Trainer(net, arguments, train_dataset=rows, optimizers=build(net, fused))
    trainer.train(resume_from_checkpoint=resume)
    logged = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    return net, logged, trainer


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}, {"bf16": True}])
def test_is_torchs_run_and_logs_its_rates(tmp_path: Path, options: dict[str, Any]) -> None:
    ours, rates, _ = train(tmp_path / "ours", True, **options)
    theirs, expected, _ = train(tmp_path / "theirs", False, **options)
    assert_same(ours, theirs)
    assert rates == pytest.approx(expected, rel=1e-12)
    assert rates[-1] == pytest.approx(OPTIONS["lr"] * SCHEDULE(13))


def test_resumes(tmp_path: Path) -> None:
    whole, rates, _ = train(tmp_path, True)
    resumed, again, trainer = train(tmp_path, True, resume=str(tmp_path / "checkpoint-6"))
    assert torch.equal(weights(resumed), weights(whole))
    assert again == rates
    assert trainer.optimizer.optimizer.steps_applied == 14  # inside Accelerate's


def test_a_script_changes_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(check_pair("trainer")) == 20
