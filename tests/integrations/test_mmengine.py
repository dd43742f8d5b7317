"""from_mmengine beside MMEngine's own schedulers: lists drawn at random, at every step."""

import random
from typing import Any

import pytest
from support.record_configs import LR, mmengine

from fused_warmup import from_mmengine


def drawn(rng: random.Random, epochs: int, length: int) -> dict[str, Any]:
    """One scheduler of any kind, clock and range."""
    by_epoch = rng.random() < 0.5
    ticks = epochs if by_epoch else epochs * length
    begin = rng.choice([0, rng.randrange(ticks - 1)])
    end = rng.choice([ticks, rng.randrange(begin + 1, ticks + 1)])
    n = end - begin
    low = rng.choice([{"eta_min": 0.01}, {"eta_min_ratio": 0.1}, {"eta_min": 0}])
    periods = [rng.randrange(1, 8) for _ in range(rng.randrange(1, 4))]
    own = rng.choice(
        [
            {"type": "ConstantLR", "factor": 0.5},
            {"type": "LinearLR", "start_factor": 0.01, "end_factor": rng.choice([1, 0.3])},
            {"type": "MultiStepLR", "milestones": [rng.randrange(ticks) for _ in periods]},
            {"type": "StepLR", "step_size": rng.randrange(1, 6), "gamma": 0.7},
            {"type": "ExponentialLR", "gamma": 0.95},
            {"type": "PolyLR", "power": 0.9, "eta_min": rng.choice([0, 0.01])},
            {"type": "CosineAnnealingLR", "T_max": rng.choice([n, n // 3 or n, n + 3]), **low},
            {"type": "CosineRestartLR", "periods": periods,
             "restart_weights": [rng.choice([1, 0.5]) for _ in periods], **low},
            {"type": "OneCycleLR", "eta_max": 0.4, "three_phase": rng.random() < 0.5},
        ]
    )  # fmt: skip
    converted = by_epoch and rng.random() < 0.4
    clock = {"begin": begin, "end": end, "by_epoch": by_epoch, "convert_to_iter_based": converted}
    return own | clock


@pytest.mark.parametrize("seed", range(4))
def test_any_list(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        epochs, length = rng.randrange(3, 12), rng.randrange(1, 7)
        schedulers = [drawn(rng, epochs, length) for _ in range(rng.randrange(1, 4))]
        if [each["type"] for each in schedulers].count("OneCycleLR") > 1:
            continue  # refused: MMEngine gives both the rates of the later one
        wanted, _ = mmengine(schedulers, length, epochs)
        if min(wanted) < -1e-9:  # a cosine that another has moved while it turned
            continue
        rates = from_mmengine(schedulers, lr=LR, epoch_length=length, max_epochs=epochs)
        found = [rates.lr_at(t) for t in range(epochs * length)]
        # MMEngine's recursions round at each step.
        assert found == pytest.approx(wanted, rel=1e-11, abs=1e-12), schedulers
