"""from_ultralytics beside the loop of Ultralytics' trainer, told in other words."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import fused_warmup
from fused_warmup import from_ultralytics

SGD = {"optimizer": "SGD"}


@dataclass
class Update:
    others: float
    biases: float
    momentum: float


def trained(
    n: int, epochs: int, batch: int, warmup: float, cos: bool, old: bool, lrf: float = 0.01
) -> list[Update]:
    """The rates in force at each update, batch by batch."""
    lr0, momentum, nbs = 0.01, 0.937, 64
    if old:
        length = max(round(warmup * n), 100) if warmup > 0 else -1
    else:
        length = round(min(warmup, epochs - 1) * n)
    accumulate, last, updates = max(round(nbs / batch), 1), -1, []
    now = Update(lr0, lr0, momentum)
    for b in range(n * epochs):
        epoch = b // n
        share = (1 + math.cos(math.pi * epoch / epochs)) / 2 if cos else 1 - epoch / epochs
        target = lr0 * (lrf + (1 - lrf) * share)
        if b % n == 0:  # the scheduler's, once an epoch; the momentum stays
            now = Update(target, target, now.momentum)
        if b <= length if old else b < length:
            x = [0, length]
            accumulate = max(1, int(np.interp(b, x, [1, nbs / batch]).round()))
            now = Update(
                np.interp(b, x, [0.0, target]),
                np.interp(b, x, [0.1, target]),
                np.interp(b, x, [0.8, momentum]),
            )
        if b - last >= accumulate:
            updates.append(Update(now.others, now.biases, now.momentum))
            last = b
    return updates


CASES = [
    (n, epochs, batch, warmup, cos, old)
    for (n, epochs, batch), warmup, cos, old in itertools.product(
        [(20, 5, 64), (20, 5, 16), (7, 9, 24), (40, 4, 100), (13, 6, 5), (9, 5, 16)],
        (0, 1, 3.0, 0.5, 20),
        (False, True),
        (False, True),
    )
]


@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_every_update(case: tuple[Any, ...]) -> None:
    n, epochs, batch, warmup, cos, old = case
    arguments = SGD | {"epochs": epochs, "batch": batch, "warmup_epochs": warmup, "cos_lr": cos}
    rates = from_ultralytics(arguments, n, least_warmup=100 if old else 0)
    wanted = trained(*case)
    assert rates.steps == rates.schedule.steps == len(wanted)
    for t, update in enumerate(wanted):
        close = {"rel": 1e-12, "abs": 1e-14}
        assert rates.lr_at(t) == pytest.approx(update.others, **close), t
        assert rates.lr * rates.bias_schedule(t) == pytest.approx(update.biases, **close), t
        if warmup:
            moved = rates.momentum * rates.momentum_schedule(t)
            assert moved == pytest.approx(update.momentum, rel=1e-12), t
        else:
            assert rates.momentum_schedule is None


def test_groups_are_those_of_ultralytics() -> None:
    rates = from_ultralytics(SGD | {"batch": 16, "warmup_epochs": 1}, 100)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2), nn.LayerNorm(2))
    model[2].bias.requires_grad_(False)
    groups = rates.param_groups(model)
    assert [len(group["params"]) for group in groups] == [2, 2, 3]
    assert [group["weight_decay"] for group in groups] == [0.0005, 0.0, 0.0]
    opt = fused_warmup.SGD(groups, **rates.sgd_options())
    assert opt.param_groups[2]["schedule"] != opt.param_groups[0]["schedule"]
    assert [group["nesterov"] for group in opt.param_groups] == [True] * 3
    assert [group["momentum"] for group in opt.param_groups] == [0.937] * 3
    assert opt.param_groups[0]["momentum_schedule"] is not None


def test_weight_decay_is_scaled_to_the_batch() -> None:
    # 48 is not a divisor of 64: round(64 / 48) batches of 48 are 48 of 64
    assert from_ultralytics(SGD | {"batch": 48}, 10).weight_decay == pytest.approx(0.0005 * 48 / 64)
    assert from_ultralytics(SGD | {"batch": 128}, 10).weight_decay == pytest.approx(0.001)


def test_adam_has_no_momentum_to_warm_up() -> None:
    rates = from_ultralytics({"optimizer": "AdamW", "lr0": 0.001}, 100)
    assert rates.momentum is rates.momentum_schedule is None
    assert rates.left == {"optimizer": "AdamW", "momentum": 0.937}
    assert "lr=0.001; weight_decay=0.0005; left to you: optimizer='AdamW', mom" in str(rates)
    assert from_ultralytics({"optimizer": "RMSProp"}, 100).momentum == 0.937


def test_the_arguments_of_a_run(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = tmp_path / "args.yaml"
    file.write_text("optimizer: SGD\nlr0: 1e-2\nepochs: 7\nbatch: 64\nmosaic: 1.0\nresume: false\n")
    rates = from_ultralytics(file, 10)
    assert rates.steps == 70
    assert rates.left == {"mosaic": 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "optimizer='auto' makes Ultralytics choose"),
        ({"optimizer": "auto"}, "optimizer='auto' makes Ultralytics choose"),
        (SGD | {"time": 3}, "time=3 lets the clock"),
        (SGD | {"batch": 0.7}, r"batch=0.7 lets AutoBatch"),
        (SGD | {"batch": -1}, "batch=-1 lets AutoBatch"),
        (SGD | {"cos_lr": "False"}, "cos_lr must be true or false, got 'False'"),
        (SGD | {"lr0": 0}, "lr0 must be a finite number above 0"),
        (SGD | {"warmup_epoch": 3}, "did you mean 'warmup_epochs'"),
        (SGD | {"epochs": 1, "batch": 1}, "has 10 batches and an update needs 64"),
        ({"optimizer": "Lion"}, "optimizer must be one of"),
    ],
)
def test_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        from_ultralytics(arguments, 10)
