"""The Triton kernel's update, bit for bit beside the reference, in Triton's interpreter."""

import itertools
from fractions import Fraction

import exact
import numpy as np
import pytest
import torch
from cases import BLOCK, DTYPES, SIZES, Pair, bytes_of, draw, parameters, plan_of
from support import OPTIONS

from fused_warmup import SGD
from fused_warmup._groups.options import DEFAULTS
from fused_warmup.schedules import linear_warmup


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_of_the_tests_rounds_once(dtype):
    rng = np.random.default_rng(0)
    x, y, z = rng.standard_normal((3, 3000)).astype(dtype)
    z[:1000] = -(x * y)[:1000]  # what one rounding leaves of these is the product's error
    z[1000:2000] = (x * y)[1000:2000] * dtype(2.0**20)
    wide = [
        Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        for a, b, c in zip(x, y, z, strict=True)
    ]
    fused = exact.fma(x, y, z)
    assert fused.dtype == dtype
    if dtype == np.float64:
        assert [float(f) for f in wide] == fused.tolist()
    else:
        # The two neighbours are farther from the exact value, or as far and odd.
        for exact_value, f in zip(wide, fused, strict=True):
            error = abs(Fraction(float(f)) - exact_value)
            for other in (
                np.nextafter(f, np.float32(-np.inf)),
                np.nextafter(f, np.float32(np.inf)),
            ):
                assert error <= abs(Fraction(float(other)) - exact_value)
    assert (fused != x * y + z).any()


@pytest.mark.parametrize("scale", [None, 1024.0], ids=["unscaled", "scaled"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_option_equals_the_reference_in_one_launch(dtype, scale):
    def groups():
        return [{"params": parameters((33,), dtype), **options} for options in OPTIONS]

    Pair(groups, lr=0.1).step(3, scale=scale)


@pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "misaligned"])
def test_averages_and_masters_equal_the_reference_in_one_launch(offset):
    averages = [
        {"ema_decay": 0.9, "ema_every": 2, "ema_start": 1},
        {"ema_decay": 0.4, "ema_schedule": linear_warmup(3), "master_weights": True},
        {"master_weights": True},
        {},
    ]

    def groups():
        sizes = (0, 1, 17, BLOCK + 1)
        return [
            {"params": parameters(sizes, dtype, offset=offset), **options}
            for dtype in DTYPES
            for options in averages
        ]

    Pair(groups, lr=0.1, momentum=0.9, weight_decay=0.01).step(4)


@pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "misaligned"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_size_equals_the_reference(dtype, offset):
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}
    Pair(lambda: parameters(SIZES, dtype, offset=offset), **options).step(2)


def test_every_pair_of_dtypes_equals_the_reference_in_one_launch():
    def params():
        pairs = itertools.product(DTYPES, DTYPES)
        return [p for pair in pairs for p in parameters((5, 16, BLOCK + 19), *pair)]

    pair = Pair(params, lr=0.1, momentum=0.9, weight_decay=0.01)
    pair.step(1)
    pair.step(2, scale=3.0)


def test_permuted_parameters_are_walked_as_they_lie():
    def params():
        made = []
        for i, shape in enumerate([(4, 3, 5, 2), (6, 1, 3, 3), (8, 4, 1, 1)]):
            p = draw(torch.Size(shape).numel(), torch.float32, i).view(shape)
            p = p.to(memory_format=torch.channels_last).requires_grad_()
            p.grad = draw(p.numel(), torch.float32, 50 + i).view(shape)  # laid out another way
            made.append(p)
        made[0].grad = made[0].grad.to(memory_format=torch.channels_last)
        return made

    pair = Pair(params, lr=0.1, momentum=0.9)
    pair.step(2)
    assert pair.params(pair.ours)[0].stride() == (30, 1, 6, 3)


@pytest.mark.parametrize("found_inf", [1.0, 2.0, float("nan"), float("inf")])
def test_a_skipped_step_moves_nothing(found_inf):
    options = {"momentum": 0.9, "dampening": 0.5, "schedule": linear_warmup(4)}
    opt = SGD(parameters(SIZES), lr=0.1, backend="triton", **options)
    for _ in range(2):
        before = bytes_of(opt)
        opt.grad_scale, opt.found_inf = torch.tensor(8.0), torch.tensor([found_inf])
        opt.step()
        assert bytes_of(opt) == before
        opt.found_inf = torch.tensor([0.0])
        opt.step()
        assert bytes_of(opt) != before
    assert opt.steps_applied == 2


def test_gradients_stay_scaled_unless_they_are_to_be_written():
    p, buffer = draw(40, torch.float32, 1), torch.zeros(40)
    grad, t = draw(40, torch.float32, 2), torch.zeros((), dtype=torch.int64)
    lr = torch.zeros(1, dtype=torch.float64)
    group = {**DEFAULTS, "lr": 0.5, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0}
    kept, expected = grad.clone(), p - 0.5 * (grad / 4)
    plan = plan_of(params=[p], momentum_buffers=[buffer], first_steps=[None], t=t, lr=lr)
    assert plan.prepare([group], [grad], torch.tensor(4.0), None, False)
    plan.launch(False)
    assert torch.equal(grad, kept)
    assert torch.equal(p, expected)
    assert (int(t), lr.tolist()) == (0, [0.5])  # another launch of this step will advance t
