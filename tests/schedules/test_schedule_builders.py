"""Builders against the schedulers they are named after, at every step."""

import math

import pytest
import torch
from torch.optim import lr_scheduler as lrs

from fused_warmup.schedules import (
    constant_warmup,
    cosine,
    cosine_restarts,
    cosine_warmup,
    cyclic,
    cyclic_momentum,
    exponential,
    exponential_warmup,
    inverse_sqrt,
    linear,
    linear_warmup,
    multi_step,
    one_cycle,
    one_cycle_momentum,
    polynomial,
    step,
    warmup_stable_decay,
)

# Both sides round a handful of operations on numbers of size 1: 1e-12 of the value, and 1e-15 where
# torch subtracts values of size 1 to get one near 0 (its linear anneal ends at 4e-6 that way).
CLOSE = {"rel": 1e-12, "abs": 1e-15}


def torch_factors(make, count, lr=1.0):
    """The learning rates that a torch scheduler sets, over ``lr``; its closed form if it has one.

    The closed form, because torch's chained products drift away from their own definition.
    """
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    scheduler = make(optimizer)
    factors = []
    for t in range(count):
        if hasattr(scheduler, "_get_closed_form_lr"):
            factors.append(scheduler._get_closed_form_lr()[0] / lr)
        else:
            factors.append(scheduler.get_last_lr()[0] / lr)
        optimizer.step()
        if t + 1 < count:
            scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("schedule", "make", "count"),
    [
        (constant_warmup(7, 0.3), lambda o: lrs.ConstantLR(o, 0.3, 7), 20),
        (linear_warmup(7, 0.3), lambda o: lrs.LinearLR(o, 0.3, 1.0, 7), 20),
        (linear(9, 0.9, 0.2), lambda o: lrs.LinearLR(o, 0.9, 0.2, 9), 20),
        (polynomial(9), lambda o: lrs.PolynomialLR(o, 9), 20),
        (polynomial(9, 2.5), lambda o: lrs.PolynomialLR(o, 9, 2.5), 20),
        (polynomial(50, 0.9), lambda o: lrs.PolynomialLR(o, 50, 0.9), 60),
        (cosine(50), lambda o: lrs.CosineAnnealingLR(o, 50), 51),
        (cosine(50, 0.1), lambda o: lrs.CosineAnnealingLR(o, 50, 0.1), 51),
        (exponential(0.97), lambda o: lrs.ExponentialLR(o, 0.97), 300),
        (exponential(1.01), lambda o: lrs.ExponentialLR(o, 1.01), 300),
        (exponential(0.0), lambda o: lrs.ExponentialLR(o, 0.0), 5),
        (step(7, 0.3), lambda o: lrs.StepLR(o, 7, 0.3), 200),
        (step(1, 0.9), lambda o: lrs.StepLR(o, 1, 0.9), 100),
        (step(7, 0.0), lambda o: lrs.StepLR(o, 7, 0.0), 20),
        (multi_step([30, 60, 80]), lambda o: lrs.MultiStepLR(o, [30, 60, 80]), 90),
        (multi_step([5, 2, 5], 0.3), lambda o: lrs.MultiStepLR(o, [2, 5, 5], 0.3), 9),
        (multi_step([0, 3], 0.0), lambda o: lrs.MultiStepLR(o, [0, 3], 0.0), 9),
        (cosine_restarts(7), lambda o: lrs.CosineAnnealingWarmRestarts(o, 7), 100),
        (
            cosine_restarts(3, mult=2, end=0.1),
            lambda o: lrs.CosineAnnealingWarmRestarts(o, 3, 2, 0.1),
            500,
        ),
        (
            cosine_restarts(5, mult=3),
            lambda o: lrs.CosineAnnealingWarmRestarts(o, 5, 3),
            500,
        ),
    ],
)
def test_torch_schedulers(schedule, make, count):
    assert schedule(range(count)) == pytest.approx(torch_factors(make, count), **CLOSE)


@pytest.mark.parametrize("steps", [2, 5, 10, 97, 1000])
@pytest.mark.parametrize("pct_start", [0.05, 0.25, 0.3, 1 / 3, 0.47])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("max_lr", [1.0, 0.3])
def test_one_cycle_is_torch_one_cycle(steps, pct_start, anneal, three_phase, max_lr):
    ours = one_cycle(steps, pct_start, anneal, three_phase=three_phase)
    theirs = torch_factors(
        lambda o: lrs.OneCycleLR(
            o, max_lr, steps, pct_start=pct_start, anneal_strategy=anneal, three_phase=three_phase
        ),
        steps,
        max_lr,
    )
    assert ours(range(steps)) == pytest.approx(theirs, **CLOSE)
    assert ours.steps == steps
    assert ours(10 * steps) == pytest.approx(4e-6, **CLOSE)


def torch_momenta(make, count, lr):
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    opt._opt_called = True
    scheduler, found = make(opt), []
    for t in range(count):
        if t:
            scheduler.step()
        found.append(opt.param_groups[0]["momentum"])
    return found


@pytest.mark.parametrize("steps", [5, 10, 97])
@pytest.mark.parametrize("pct_start", [0.25, 0.3, 1 / 3, 0.47])
@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_momentum_is_torchs(steps, pct_start, anneal, three_phase):
    ours = one_cycle_momentum(steps, pct_start, anneal, three_phase=three_phase)
    options = {"pct_start": pct_start, "anneal_strategy": anneal, "three_phase": three_phase}
    theirs = torch_momenta(lambda o: lrs.OneCycleLR(o, 0.5, steps, **options), steps, 0.1)
    assert [0.95 * f for f in ours(range(steps))] == pytest.approx(theirs, **CLOSE)
    assert ours.steps == steps
    assert ours(10 * steps) == pytest.approx(1.0, **CLOSE)


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
@pytest.mark.parametrize(("up", "down"), [(4, None), (3, 8), (1, 1)])
def test_cyclic_momentum_is_torchs(mode, up, down):
    gamma = 0.97 if mode == "exp_range" else 1.0
    ours = cyclic_momentum(up, down, mode=mode, gamma=gamma)
    theirs = torch_momenta(
        lambda o: lrs.CyclicLR(o, 0.1, 0.5, up, down, mode=mode, gamma=gamma), 60, 0.1
    )
    assert [0.9 * f for f in ours(range(60))] == pytest.approx(theirs, **CLOSE)


def test_one_cycle_at_its_limits():
    never_falls = one_cycle(10, pct_start=1.0, div_factor=2.0)
    assert never_falls(0) == 0.5
    assert never_falls([9, 10, 99]) == [1.0, 1.0, 1.0]
    # torch divides by zero where the peak is at step 0.
    assert one_cycle(10, pct_start=0.1)(0) == 1.0
    assert one_cycle(2, pct_start=0.5)([0, 1]) == [1.0, 1 / 25 / 1e4]


@pytest.mark.parametrize("up_down", [(1, None), (4, None), (5, 3), (2, 9), (100, 50)])
@pytest.mark.parametrize(
    ("mode", "gamma"), [("triangular", 1.0), ("triangular2", 1.0), ("exp_range", 0.99)]
)
@pytest.mark.parametrize("low", [0.01, 0.5])
def test_cyclic_is_torch_cyclic(up_down, mode, gamma, low):
    up, down = up_down

    def make(optimizer):
        return lrs.CyclicLR(optimizer, low, 1.0, up, down, mode=mode, gamma=gamma)

    ours = cyclic(up, down, low, mode=mode, gamma=gamma)(range(400))
    assert ours == pytest.approx(torch_factors(make, 400), **CLOSE)


@pytest.mark.parametrize(("warmup", "timescale"), [(10, 10), (10, 40), (0, 10_000), (3, 1)])
def test_inverse_sqrt_is_hugging_face(warmup, timescale):
    """get_inverse_sqrt_schedule, transformers 4: 1 / sqrt((t + timescale - W) / timescale)."""

    def factor(t):
        if t < warmup:
            return t / max(1, warmup)
        return 1.0 / math.sqrt((t + timescale - warmup) / timescale)

    ours = inverse_sqrt(timescale)
    if warmup:
        ours = linear_warmup(warmup).then(ours)
    assert ours(range(200)) == pytest.approx([factor(t) for t in range(200)], **CLOSE)


@pytest.mark.parametrize("warmup", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize("decay", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize("least", [0.0, 0.1])
@pytest.mark.parametrize("lengths", [(10, 20, 30), (0, 20, 30), (10, 0, 30), (0, 0, 1)])
def test_warmup_stable_decay_is_hugging_face(warmup, decay, least, lengths):
    """get_wsd_schedule, transformers 4, with its default num_cycles of 0.5."""
    rise, stay, fall = lengths

    def factor(t):
        if t < rise:
            x = t / rise
            up = {
                "linear": x,
                "cosine": 0.5 * (1.0 - math.cos(math.pi * x)),
                "1-sqrt": 1.0 - math.sqrt(1.0 - x),
            }[warmup]
            return up * (1.0 - least) + least
        if t < rise + stay:
            return 1.0
        if t < rise + stay + fall:
            x = (t - rise - stay) / fall
            down = {
                "linear": 1.0 - x,
                "cosine": 0.5 * (1.0 + math.cos(math.pi * x)),
                "1-sqrt": 1.0 - math.sqrt(x),
            }[decay]
            return down * (1.0 - least) + least
        return least

    ours = warmup_stable_decay(*lengths, warmup=warmup, decay=decay, start=least, end=least)
    assert ours(range(80)) == pytest.approx([factor(t) for t in range(80)], **CLOSE)
    assert ours.steps == sum(lengths)


@pytest.mark.parametrize("build", [linear_warmup, cosine_warmup, exponential_warmup])
@pytest.mark.parametrize("steps", [1, 2, 5, 1000])
def test_warmups_rise_from_start_to_one(build, steps):
    values = build(steps, start=0.25)(range(steps + 3))
    assert values[0] == 0.25
    assert values[steps:] == [1.0, 1.0, 1.0]
    assert values == sorted(values)


def test_restarts_with_a_fractional_growth_start_between_steps():
    """Cycle i begins at S = T (mult^i - 1) / (mult - 1) and lasts T mult^i, as in timm."""
    ours = cosine_restarts(3, mult=1.5, cycle_gain=0.5)
    for t in range(300):
        i = 0
        while 3 * (1.5 ** (i + 1) - 1) / 0.5 <= t:
            i += 1
        u = t - 3 * (1.5**i - 1) / 0.5
        wanted = 0.5**i * 0.5 * (1 + math.cos(math.pi * u / (3 * 1.5**i)))
        assert ours(t) == pytest.approx(wanted, **CLOSE)


def test_restarts_cover_every_step_of_int64():
    schedule = cosine_restarts(1, mult=2)
    assert len(schedule.segments) == 64
    assert schedule(2**62 - 1) == 1.0  # cycle i begins at 2**i - 1
    assert schedule(2**63 - 1) == 1.0
    assert schedule(2**63 - 2) == 0.0
    assert len(cosine_restarts(1, mult=1.5).segments) < 120


def test_restarts_may_end():
    for schedule in (
        cosine_restarts(4, end=0.25, cycles=3),
        cosine_restarts(4, 1.0, 0.25, cycles=3),
    ):
        assert schedule.steps == 12
        assert schedule([0, 4, 8, 12, 99]) == [1.0, 1.0, 1.0, 0.25, 0.25]
    growing = cosine_restarts(4, mult=2, end=0.25, cycles=3)
    assert growing.steps == 28
    assert growing([0, 4, 12, 28, 99]) == [1.0, 1.0, 1.0, 0.25, 0.25]


@pytest.mark.parametrize("around", [2**24, 2**31, 2**40])
def test_stairs_drop_at_multiples_of_their_size(around):
    """In float32, steps beyond 2**24 can't be told apart, and t / 3 is off long before."""
    factor = step(3, gamma=1 - 1e-12)
    for t in range(around - 5, around + 5):
        assert (factor(t) < factor(t - 1)) == (t % 3 == 0)


def test_counting_in_epochs():
    assert linear_warmup(epochs=5, steps_per_epoch=100) == linear_warmup(500)
    assert step(epochs=2.4, steps_per_epoch=5004) == step(12_010)
    assert exponential(0.5, epochs=2, steps_per_epoch=3) == exponential(0.5, 6)
    assert inverse_sqrt(epochs=2, steps_per_epoch=3) == inverse_sqrt(6)
    assert multi_step(epochs=(1, 2.5), steps_per_epoch=10) == multi_step([10, 25])
    assert cyclic(epochs_up=2, epochs_down=1, steps_per_epoch=10) == cyclic(20, 10)
    parts = {"warmup_epochs": 1, "stable_epochs": 0, "decay_epochs": 0.5}
    assert warmup_stable_decay(**parts, steps_per_epoch=10) == warmup_stable_decay(10, 0, 5)
    # A half rounds up; an int number of epochs is exact beyond 2**53.
    assert linear(epochs=0.5, steps_per_epoch=7).steps == 4
    assert linear(epochs=2.5, steps_per_epoch=1).steps == 3
    assert linear(epochs=3, steps_per_epoch=2**60 + 1).steps == 3 * (2**60 + 1)
