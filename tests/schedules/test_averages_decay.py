"""The decay of averages beside the formulas of those who use them."""

import math

import pytest

from fused_warmup.schedules import ema_power, ema_ramp, ema_threshold

STEPS = [*range(40), 97, 98, 99, 889, 890, 891, 89_989, 89_990, 89_991, 10**7]
EXACT = 4 * 2.0**-53  # of the few roundings of each formula, of numbers up to 1


@pytest.mark.parametrize("decay", [0.05, 0.1, 0.5, 0.99, 0.9999, 1.0])
@pytest.mark.parametrize(("count_from", "per_step"), [(0, 1), (1, 1), (1, 4)])
def test_threshold(decay, count_from, per_step) -> None:
    schedule = ema_threshold(decay, count_from=count_from, per_step=per_step)
    for t in STEPS:
        n = per_step * (t + count_from)
        wanted = min(decay, (1 + n) / (10 + n))
        assert decay * schedule(t) == pytest.approx(wanted, rel=0, abs=EXACT)
        assert decay * schedule(t) <= 1


@pytest.mark.parametrize("count_from", [0, 1])
def test_ramp(count_from) -> None:
    schedule = ema_ramp(2500.5, beta=15, count_from=count_from)
    for t in STEPS:
        wanted = 1 - math.exp(-15 * (t + count_from) / 2500.5)
        assert schedule(t) == pytest.approx(wanted, rel=0, abs=EXACT)


@pytest.mark.parametrize("decay", [0.1, 0.9, 0.9999])
@pytest.mark.parametrize(("gamma", "power"), [(1.0, 2 / 3), (10.0, 0.75)])
@pytest.mark.parametrize("after", [0, 5])
def test_power(decay, gamma, power, after) -> None:
    schedule = ema_power(decay, gamma, power, after=after)
    for t in STEPS:
        n = max(t - after, 0)
        wanted = min(decay, 1 - (1 + n / gamma) ** -power)
        assert decay * schedule(t) == pytest.approx(wanted, rel=0, abs=EXACT)


@pytest.mark.parametrize("build", [ema_threshold, ema_power])
@pytest.mark.parametrize("decay", [0.0, 1.5, math.nan, "0.9"])
def test_a_decay_that_is_none(build, decay) -> None:
    with pytest.raises((TypeError, ValueError), match="decay"):
        build(decay)
