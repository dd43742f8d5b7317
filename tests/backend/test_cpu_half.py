"""csrc/math/half.h, every pattern: bfloat16 and float16 through the CPU kernel and back."""

from collections.abc import Iterator

import pytest
import torch
from support import parameter, same_bits
from torch import Tensor

from fused_warmup import SGD

HALVES = [torch.bfloat16, torch.float16]


def patterns(dtype: torch.dtype) -> Tensor:
    """All 65536 values of a half type."""
    return torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(dtype)


@pytest.fixture(params=[False, True], ids=["subnormals", "flushed"])
def flush(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether this thread's processor takes subnormal float32 for zero."""
    torch.set_flush_denormal(request.param)
    yield request.param
    torch.set_flush_denormal(False)


def assert_same_numbers(a: Tensor, b: Tensor) -> None:
    assert torch.equal(a.isnan(), b.isnan())
    assert same_bits(a[~a.isnan()], b[~b.isnan()])


def widened(values: Tensor) -> Tensor:
    """What the kernel reads: p = -0.0 + 1 * g is g itself, the sign of its zeros too."""
    p = parameter(torch.full(values.shape, -0.0))
    p.grad_dtype = values.dtype
    p.grad = values
    SGD([p], lr=1.0, maximize=True, backend="cpu").step()
    return p.detach()


def narrowed(values: Tensor, dtype: torch.dtype) -> Tensor:
    """What the kernel writes: the same sum, stored in a parameter of ``dtype``."""
    p = parameter(torch.full(values.shape, -0.0, dtype=dtype), torch.float32)
    p.grad = values
    SGD([p], lr=1.0, maximize=True, backend="cpu").step()
    return p.detach()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_widening_is_exact(dtype: torch.dtype, flush: bool) -> None:
    values = patterns(dtype)
    torch.set_flush_denormal(False)
    expected = values.float()
    torch.set_flush_denormal(flush)
    found = widened(values)
    torch.set_flush_denormal(False)
    if flush and dtype == torch.bfloat16:
        # Its subnormals are float32's, which the sum -0.0 + g itself takes for zero.
        normal = expected.abs() >= 2.0**-126
        found, expected = found[normal | expected.isnan()], expected[normal | expected.isnan()]
    assert_same_numbers(found, expected)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_narrowing_gives_every_value_back(dtype: torch.dtype, flush: bool) -> None:
    values = patterns(dtype)
    torch.set_flush_denormal(False)
    wide = values.float()
    if flush and dtype == torch.bfloat16:
        wide = wide[(wide.abs() >= 2.0**-126) | wide.isnan()]
        values = wide.to(dtype)
    torch.set_flush_denormal(flush)
    found = narrowed(wide, dtype)
    torch.set_flush_denormal(False)
    assert_same_numbers(found, values)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_narrowing_rounds_to_nearest_even(dtype: torch.dtype, flush: bool) -> None:
    """The middle between two neighbours, and the float32 before and after it, for all of them."""
    torch.set_flush_denormal(False)
    low = patterns(dtype).float()
    low = low[low.isfinite() & (low >= 0)].sort().values
    middle = (low[:-1].double() + low[1:].double()).div(2).float()
    up, down = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    near = torch.cat([middle, middle.nextafter(up), middle.nextafter(down)])
    top = low[-1] + (low[-1] - low[-2]) / 2  # the least that rounds to infinity, if it is even
    near = torch.cat([near, torch.stack([top.nextafter(down), top, top.nextafter(up)])])
    if flush:
        near = near[near >= 2.0**-126]
    near = torch.cat([near, -near])
    expected = near.to(dtype)
    torch.set_flush_denormal(flush)
    found = narrowed(near, dtype)
    torch.set_flush_denormal(False)
    assert_same_numbers(found, expected)
    assert expected.isinf().sum() == 4


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_no_nan_rounds_to_a_number(dtype: torch.dtype) -> None:
    """With the largest payload, rounding up would carry into the sign."""
    bits = torch.tensor([0x7FFFFFFF, -1, 0x7F800001, 0x7FC00000, 0x7FFFF000], dtype=torch.int64)
    values = bits.to(torch.int32).view(torch.float32)
    assert values.isnan().all()
    assert narrowed(values, dtype).isnan().all()


def test_torch_rounds_to_nearest_even_too() -> None:
    """The oracle itself, at ties worked out by hand."""
    ties = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 2.0**-134, 3 * 2.0**-134])
    assert ties.bfloat16().tolist() == [1.0, 1 + 2**-6, 0.0, 2.0**-132]
    ties = torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 2.0**-25, 3 * 2.0**-25, 65519.0, 65520.0])
    expected = [1.0, 1 + 2**-9, 0.0, 2.0**-23, 65504.0, torch.inf]
    assert ties.half().tolist() == expected


@pytest.mark.parametrize("param_dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_unscaling_reads_and_writes_every_value(dtype, param_dtype) -> None:
    results = []
    for backend in ("cpu", "reference"):
        p = parameter(torch.zeros(2**16, dtype=param_dtype), dtype)
        p.grad = patterns(dtype)
        opt = SGD([p], lr=1.0, backend=backend)
        opt.grad_scale, opt.found_inf = torch.tensor(3.0), torch.tensor(0.0)
        opt.step()
        results.append((p.detach(), p.grad))
    for mine, theirs in zip(*results, strict=True):
        assert_same_numbers(mine, theirs)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_rate_of_zero_keeps_every_value(dtype: torch.dtype) -> None:
    values = patterns(dtype)
    p = parameter(values.clone())
    p.grad = torch.ones(2**16, dtype=dtype)
    SGD([p], lr=0.0, backend="cpu").step()
    # -0.0 + -0.0 * 1 is -0.0, so every sign stays.
    assert_same_numbers(p.detach(), values)
