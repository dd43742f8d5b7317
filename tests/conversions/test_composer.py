"""Composer's schedulers: factors as its source (mosaicml 0.32.1) has them, restated."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from fused_warmup import from_composer

PER_EPOCH = 13


def batches(time: str, end: str, ratio: float, scaled: bool = True) -> int:
    """A time in batches; a part is one of a training that is scaled already."""
    whole, unit = float(time.rstrip("abdepru")), time.lstrip("0123456789.")
    if unit == "dur":
        return int(whole * int(float(end[:-2]) * ratio) * (PER_EPOCH if end.endswith("ep") else 1))
    return int(whole * (PER_EPOCH if unit == "ep" else 1) * (ratio if scaled else 1))


def fallen(name: str, x: float, given: dict[str, Any]) -> float:
    """A fall, x of it being over."""
    x, low = min(x, 1.0), given.get("alpha_f", 0.0)
    if name.startswith("Cosine"):
        return low + (1.0 - low) * (1.0 + math.cos(math.pi * x)) / 2.0
    if name.startswith("Polynomial"):
        return low + (1.0 - low) * (1.0 - x) ** given.get("power", 2.0)
    top = given.get("alpha_i", 1.0)
    return given.get("alpha", 1.0) if name.startswith("Constant") else top + (low - top) * x


def warmed(name: str, t: int, end: str, ratio: float, given: dict[str, Any]) -> float:
    warm = batches(given["t_warmup"], end, ratio, scaled=False)
    if t < warm:
        length = batches(given["t_warmup"], end, ratio) if given.get("scale_warmup") else warm
        return min(t / length, 1.0) * given.get("alpha_i", given.get("alpha", 1.0))
    if "milestones" in given:
        passed = [m for m in given["milestones"] if t >= batches(m, end, ratio)]
        return given.get("gamma", 0.1) ** len(passed)
    last = batches(given.get("t_max", "1dur"), end, ratio)
    return fallen(name, (t - warm) / (last - warm) if last > warm else 0.0, given)


WARMUPS: list[tuple[str, dict[str, Any]]] = [
    ("LinearWithWarmupScheduler", {"alpha_i": 0.9, "alpha_f": 0.1}),
    ("LinearWithWarmupScheduler", {"t_max": "40ep"}),
    ("ConstantWithWarmupScheduler", {"alpha": 0.7}),
    ("CosineAnnealingWithWarmupScheduler", {"alpha_f": 0.1}),
    ("PolynomialWithWarmupScheduler", {}),
    ("PolynomialWithWarmupScheduler", {"power": 0.9, "alpha_f": 0.2}),
    ("MultiStepWithWarmupScheduler", {"milestones": ["2ep", "0.5dur", "77ba"], "gamma": 0.3}),
]


@pytest.mark.parametrize("t_warmup", ["0ba", "10ba", "2ep", "0.07dur", "1dur"])
@pytest.mark.parametrize(("name", "more"), WARMUPS)
def test_warmups(name: str, more: dict[str, Any], t_warmup: str) -> None:
    for end, ratio, scaled in (("12ep", 1.0, False), ("97ba", 0.6, True), ("12ep", 1.7, True)):
        given = {**more, "t_warmup": t_warmup, "scale_warmup": scaled}
        schedule = from_composer(
            {"name": name, **given}, end, steps_per_epoch=PER_EPOCH, scale_schedule_ratio=ratio
        )
        steps = batches("1dur", end, ratio)
        assert schedule.steps == steps
        expected = [warmed(name, t, end, ratio, given) for t in range(steps + 1)]
        assert schedule(range(steps + 1)) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_those_without_a_warmup() -> None:
    def factors(name: str, steps: range = range(40), **given: Any) -> Any:
        return from_composer({"name": name, **given}, "40ba", steps_per_epoch=10)(steps)

    near = pytest.approx
    drops = [0.5 ** (t // 7) for t in range(40)]
    assert factors("StepScheduler", step_size="7ba", gamma=0.5) == near(drops)
    drops = [0.1 ** ((t >= 5) + (t >= 20)) for t in range(40)]
    assert factors("MultiStepScheduler", milestones=["0.5dur", "5ba"]) == near(drops)
    assert factors("MultiStepScheduler", milestones=[]) == [1.0] * 40
    held = factors("ConstantScheduler", alpha=0.3, t_max="1ep")
    assert held == [0.3] * 10 + [1.0] * 30
    fall = [fallen("Linear", t / 20, {"alpha_i": 0.2, "alpha_f": 1.5}) for t in range(40)]
    assert factors("LinearScheduler", alpha_i=0.2, alpha_f=1.5, t_max="2ep") == near(fall)
    fall = [0.9 ** (t / 10) for t in range(40)]
    assert factors("ExponentialScheduler", gamma=0.9) == near(fall)
    fall = [fallen("Cosine", t / 40, {"alpha_f": 0.1}) for t in range(40)]
    assert factors("CosineAnnealingScheduler", alpha_f=0.1) == near(fall)
    fall = [fallen("Polynomial", t / 40, {"power": 3.0}) for t in range(40)]
    assert factors("PolynomialScheduler", power=3.0) == near(fall)
    cycle = [fallen("Cosine", t % 10 / 10, {}) for t in range(40)]
    assert factors("CosineAnnealingWarmRestartsScheduler", t_0="1ep") == near(cycle, abs=1e-15)
    cycle = [fallen("Cosine", t / n, {}) for n in (10, 15, 22) for t in range(n)][:40]
    found = factors("CosineAnnealingWarmRestartsScheduler", t_0="10ba", t_mult=1.5)
    assert found == near(cycle, abs=1e-15)


def test_llm_foundrys_names() -> None:
    config = {"name": "cosine_with_warmup", "t_warmup": "100ba", "alpha_f": 0.1}
    named = from_composer(config, "4800ba")
    assert named == from_composer(
        {**config, "name": "CosineAnnealingWithWarmupScheduler"}, "4800ba"
    )
    config = {"name": "linear_decay_with_warmup", "t_warmup": "0.06dur", "alpha_f": 0.02}
    assert from_composer(config, "1ep", steps_per_epoch=100)(range(8)) == pytest.approx(
        [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1 - 0.98 / 94]
    )


class PolynomialWithWarmupScheduler:
    """As far as a conversion sees it, times being objects."""

    def __init__(self, t_warmup: Any, **options: Any) -> None:
        options = {"power": 2.0, "t_max": "1dur", "alpha_f": 0.0, "scale_warmup": False} | options
        vars(self).update(t_warmup=t_warmup, **options)


PolynomialWithWarmupScheduler.__module__ = "composer.optim.scheduler"


def test_live_ones_and_lists() -> None:
    time = SimpleNamespace(value=4, unit=SimpleNamespace(value="ba"))
    end = SimpleNamespace(value=2, unit=SimpleNamespace(value="ep"))
    live = from_composer(PolynomialWithWarmupScheduler(time, power=1.0), end, steps_per_epoch=10)
    config = {"name": "PolynomialWithWarmupScheduler", "t_warmup": "4ba", "power": 1.0}
    written = from_composer(config, "2ep", steps_per_epoch=10)
    assert live == written
    drop = {"name": "StepScheduler", "step_size": "1ep"}
    both = from_composer([config, drop], "2ep", steps_per_epoch=10)
    assert both(range(20)) == pytest.approx([written(t) * 0.1 ** (t // 10) for t in range(20)])
    assert both.steps == 20
    assert from_composer([], "20ba")(7) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t_warmup": "100tok"}, r"t_warmup='100tok' is in a unit of which a step"),
        ({"t_warmup": "60sec"}, r"t_warmup='60sec' is in a unit"),
        ({"t_warmup": "1.5ep"}, r"must be a whole number"),
        ({"t_warmup": 10}, r"t_warmup must be a time such as '10ep'.*got 10"),
        ({"t_warmup": "ba"}, r"t_warmup must be a time such as"),
        ({"t_max": "5ba"}, r"t_max is 5 batches and the training 40"),
        ({"alpha_max": 1}, r"takes no \['alpha_max'\]"),
        ({"alphaf": 1}, r"did you mean 'alpha_f'"),
        ({"name": "inv_sqrt_with_warmup"}, r"name must be one of"),
    ],
)
def test_what_cannot_be_converted_says_why(change: dict[str, Any], message: str) -> None:
    config = {"name": "cosine_with_warmup", "t_warmup": "4ba", **change}
    with pytest.raises(ValueError, match=message):
        from_composer(config, "40ba", steps_per_epoch=10)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(TypeError, match=r"needs \['t_warmup'\]"):
        from_composer({"name": "cosine_with_warmup"}, "40ba")
    with pytest.raises(TypeError, match="in epochs: pass steps_per_epoch="):
        from_composer({"name": "cosine_with_warmup", "t_warmup": "1ep"}, "40ba")
    with pytest.raises(TypeError, match="must be a scheduler of composer"):
        from_composer(lambda state: 1.0, "40ba")
    with pytest.raises(ValueError, match="max_duration must be in batches or epochs"):
        from_composer({"name": "LinearScheduler"}, "1dur")
    restarts = {"name": "CosineAnnealingWarmRestartsScheduler", "t_0": "8ba", "t_mult": 0.5}
    with pytest.raises(ValueError, match="shrink to nothing"):
        from_composer(restarts, "40ba")
    with pytest.raises(ValueError, match="max_duration"):
        from_composer({"name": "LinearScheduler"}, "1ba", scale_schedule_ratio=0.5)
