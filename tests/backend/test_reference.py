"""The reference: torch.optim.SGD's own bits, and the formula's own numbers."""

import math
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support import OPTIONS, models, parameter, randn, same_bits, set_grads

from fused_warmup import SGD, linear_warmup
from fused_warmup._backend.reference import put_gradient, sgd_reference, widened

SHAPES = ((), (1,), (17,), (5, 7), (3, 1, 2), (0,))
EPS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
TINY = {torch.float32: 2.0**-149, torch.float64: 2.0**-1074}  # the smallest subnormal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_is_torch_sgd_to_the_bit(options: dict[str, Any], dtype: torch.dtype) -> None:
    mine, theirs, start = (models(*SHAPES, dtype=dtype) for _ in range(3))
    ours = SGD(mine, lr=0.1, backend="reference", **options)
    torchs = torch.optim.SGD(theirs, lr=0.1, foreach=False, **options)
    for step in range(4):
        set_grads(mine, step)
        set_grads(theirs, step)
        absent = step % len(SHAPES)
        mine[absent].grad = theirs[absent].grad = None
        ours.step()
        torchs.step()
        assert all(map(same_bits, mine, theirs))
        for p, q in zip(mine, theirs, strict=True):
            if "momentum_buffer" in torchs.state[q]:
                assert same_bits(
                    ours.state[p]["momentum_buffer"], torchs.state[q]["momentum_buffer"]
                )
    assert not any(same_bits(p, q) for p, q in zip(mine, start, strict=True) if p.numel())


def by_hand(
    p: float,
    grads: list[float],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    maximize: bool,
) -> float:
    """The formula of SGD's docstring on Python floats; no code in common with the package."""
    buffer = None
    for grad in grads:
        d = (-grad if maximize else grad) + weight_decay * p
        if momentum:
            buffer = d if buffer is None else momentum * buffer + (1 - dampening) * d
            d = d + momentum * buffer if nesterov else buffer
        p -= lr * d
    return p


numbers = st.floats(-4, 4)
coefficients = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99])


PLAIN = dict(momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0, maximize=False)


@pytest.mark.parametrize("dtype", list(EPS), ids=str)
@example(p=0.0, grads=[1.4e-45], lr=0.5, **PLAIN)  # the product is half the smallest subnormal
@example(p=0.0, grads=[4.0], lr=1e-45, **PLAIN)  # a rate that float32 rounds to 1.4e-45
@given(
    p=numbers,
    grads=st.lists(numbers, min_size=1, max_size=6),
    lr=st.floats(0, 1),
    momentum=coefficients,
    dampening=coefficients,
    nesterov=st.booleans(),
    weight_decay=coefficients,
    maximize=st.booleans(),
)
def test_is_the_formula(dtype, p, grads, lr, momentum, dampening, nesterov, weight_decay, maximize):
    assume(not nesterov or (momentum > 0 and dampening == 0))
    options = dict(
        momentum=momentum,
        dampening=dampening,
        nesterov=nesterov,
        weight_decay=weight_decay,
        maximize=maximize,
    )
    param = parameter(torch.tensor(p, dtype=dtype))
    opt = SGD([param], lr=lr, backend="reference", **options)
    for grad in grads:
        param.grad = torch.tensor(grad, dtype=dtype)
        opt.step()
    rounded = [torch.tensor(grad, dtype=dtype).item() for grad in grads]
    start = torch.tensor(p, dtype=dtype).item()
    expected = by_hand(start, rounded, lr=lr, **options)
    # A term passes through at most 12 roundings a step, 3 each (the coefficient's, the product's,
    # the sum's) in d, the buffer, Nesterov's sum and p, and through as many in by_hand's doubles.
    # Each is at most EPS of a number that the same formula without signs bounds, or half of TINY,
    # which grows as a unit would that is fed in everywhere.
    bounds = options | {"maximize": False}
    largest = by_hand(abs(start), [abs(grad) for grad in rounded], **bounds | {"lr": -lr})
    growth = by_hand(4.0, [4.0] * len(grads), **bounds | {"lr": -1.0})
    slack = 24 * len(grads) * (EPS[dtype] * largest + TINY[dtype] * growth)
    assert param.item() == pytest.approx(expected, rel=0, abs=slack)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_half_is_float32_rounded_once_a_step(options: dict[str, Any], dtype: torch.dtype) -> None:
    half = parameter(randn(999, seed=1, dtype=dtype))
    opt = SGD([half], lr=0.1, backend="reference", **options)
    for step in range(3):
        wide = parameter(half.detach().float())
        one = torch.optim.SGD([wide], lr=0.1, foreach=False, **options)
        if step and options["momentum"]:
            one.state[wide]["momentum_buffer"] = opt.state[half]["momentum_buffer"].float()
        half.grad = randn(999, seed=step, dtype=dtype)
        wide.grad = half.grad.float()
        opt.step()
        one.step()
        assert same_bits(half, wide.to(dtype))
        if options["momentum"]:
            buffer = one.state[wide]["momentum_buffer"].to(dtype)
            assert same_bits(opt.state[half]["momentum_buffer"], buffer)


def test_schedule_scales_the_rate_in_float64() -> None:
    p = parameter(torch.tensor([1.0], dtype=torch.float64))
    opt = SGD([p], lr=0.3, schedule=linear_warmup(7, start=0.1), backend="reference")
    expected = 1.0
    for t in range(9):
        p.grad = torch.tensor([0.7], dtype=torch.float64)
        opt.step()
        rate = 0.3 * (0.1 + 0.9 * min(t / 7, 1.0))
        expected = math.fma(-rate, 0.7, expected) if hasattr(math, "fma") else expected - rate * 0.7
        # Two roundings of the rate and one of each update.
        assert p.item() == pytest.approx(expected, rel=0, abs=4 * 9 * EPS[torch.float64])


@given(scale=st.sampled_from([0.25, 2.0, 1024.0]), options=st.sampled_from(OPTIONS))
def test_powers_of_two_scale_through(scale: float, options: dict[str, Any]) -> None:
    """Parameters and gradients times 2^k give parameters times 2^k: no rounding differs."""
    runs = []
    for factor in (1.0, scale):
        p = parameter(randn(33, seed=5) * factor)
        opt = SGD([p], lr=0.1, backend="reference", **options)
        for step in range(3):
            p.grad = randn(33, seed=step) * factor
            opt.step()
        runs.append(p.detach())
    assert torch.equal(runs[0] * scale, runs[1])


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
def test_sparse_gradient_moves_its_rows_as_torch_does() -> None:
    index = torch.tensor([[1, 3, 1]])
    grad = torch.sparse_coo_tensor(index, randn(3, 4, seed=2), (5, 4), check_invariants=True)
    for options in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}):
        mine, theirs = models((5, 4)), models((5, 4))
        ours, torchs = SGD(mine, lr=0.1, **options), torch.optim.SGD(theirs, lr=0.1, **options)
        for _ in range(3):
            mine[0].grad, theirs[0].grad = grad, grad
            ours.step()
            torchs.step()
        if options:
            # torch adds each sparse entry of its momentum on its own: nine roundings more.
            torch.testing.assert_close(mine[0], theirs[0], rtol=0, atol=9 * 8 * 2.0**-24)
        else:
            assert same_bits(mine[0], theirs[0])
        assert ours.steps_applied == 3


def test_widened() -> None:
    assert widened(torch.float16) == widened(torch.bfloat16) == torch.float32
    assert widened(torch.float8_e4m3fn) == torch.float32
    assert widened(torch.float64) == torch.float64
    assert widened(torch.complex64) == torch.complex64


def test_put_gradient_replaces_one_that_overlaps_itself() -> None:
    p = parameter(torch.ones(2, 3))
    p.grad = kept = torch.zeros(2, 3)
    put_gradient(p, p.grad, torch.full((2, 3), 2.0))
    assert p.grad is kept
    assert kept.eq(2).all()
    p.grad = torch.zeros(3).expand(2, 3)
    put_gradient(p, p.grad, torch.arange(6.0).reshape(2, 3))
    assert torch.equal(p.grad, torch.arange(6.0).reshape(2, 3))


def test_sgd_reference_updates_in_place_and_leaves_the_gradient() -> None:
    p, g, b = torch.ones(4), torch.full((4,), 2.0), torch.zeros(4)
    sgd_reference(
        p,
        g,
        b,
        lr=0.5,
        weight_decay=1.0,
        momentum=0.5,
        dampening=0.0,
        nesterov=True,
        maximize=True,
        first_step=True,
    )
    # d = -2 + 1 = -1, b = -1, step against -1 + 0.5 * -1 = -1.5.
    assert p.tolist() == [1.75] * 4
    assert b.tolist() == [-1.0] * 4
    assert g.tolist() == [2.0] * 4
