"""docs/coming_from.md: every case runs as it stands, in at most three lines of its own."""

import re
from pathlib import Path

import pytest
import torch

import fused_warmup
from fused_warmup.schedules import cosine, join_schedules, linear_warmup

TEXT = (Path(__file__).parents[2] / "docs" / "coming_from.md").read_text()
CASES = re.findall(r"^## (.*?)\n.*?```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE)
RECIPE = {"initial_lr": 0.1, "max_epochs": 90, "lr_mode": "CosineLRScheduler"}


@pytest.mark.parametrize(("name", "code"), CASES, ids=[name for name, _ in CASES])
def test_runs(name: str, code: str) -> None:
    model = torch.nn.Linear(4, 2)
    known = {
        "torch": torch,
        "fused_warmup": fused_warmup,
        "model": model,
        "training_params": RECIPE,
        "cosine": cosine,
        "linear_warmup": linear_warmup,
        "join_schedules": join_schedules,
    }
    exec(code, known)
    lines = [line for line in code.splitlines() if "torch." not in line]
    assert len(lines) <= 3
    opt = known["opt"]
    assert type(opt) is fused_warmup.SGD
    assert opt.param_groups[0]["schedule"] is not None
    for _ in range(2):
        model(torch.ones(3, 4)).sum().backward()
        opt.step()
    assert opt.steps_applied == 2


def test_no_case_is_missing() -> None:
    assert [name for name, _ in CASES] == [
        "torch", "apex", "SuperGradients", "Hugging Face", "timm", "optax"
    ]  # fmt: skip
