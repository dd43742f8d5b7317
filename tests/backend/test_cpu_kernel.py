"""The CPU kernel: the reference's own bits, for every option, dtype, size, split and layout."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support import OPTIONS, copies, models, parameter, randn, same_bits, tensors_of, train
from torch import Tensor

from fused_warmup import SGD, linear_warmup
from fused_warmup._backend.cpu import capability

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Around the vector widths (4 to 64 elements) and around the kernel's block of 1024.
SIZES = (0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129, 1023, 1024, 1025, 2100)
GUARD = 8


class Guarded:
    """Tensors inside larger ones full of NaN, which a kernel must neither read nor write."""

    def __init__(self) -> None:
        self.arenas: list[tuple[Tensor, int]] = []

    def place(self, values: Tensor) -> Tensor:
        arena = values.new_full((values.numel() + 2 * GUARD,), torch.nan)
        self.arenas.append((arena, values.numel()))
        inside = arena[GUARD : GUARD + values.numel()].view(values.shape)
        return inside.copy_(values)

    def assert_whole(self) -> None:
        for arena, n in self.arenas:
            assert arena[:GUARD].isnan().all()
            assert arena[GUARD + n :].isnan().all()
            assert not arena[GUARD : GUARD + n].isnan().any()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(
    backend: str,
    options: dict[str, Any],
    dtype: torch.dtype,
    grad_dtype: torch.dtype,
    sizes: tuple[int, ...] = SIZES,
    *,
    grad_scale: float | None = None,
    steps: int = 3,
) -> list[Tensor]:
    """Take a few steps; return parameters, gradients and momentum."""
    guarded = Guarded()
    params = []
    for i, size in enumerate(sizes):
        params.append(parameter(guarded.place(randn(size, seed=i, dtype=dtype)), grad_dtype))
    opt = SGD(params, lr=0.1, schedule=linear_warmup(2, 0.3), backend=backend, **options)
    for p in params:
        if "momentum_buffer" in opt.state[p]:
            kept = guarded.place(opt.state[p]["momentum_buffer"])
            opt.state[p]["momentum_buffer"] = kept
    for step in range(steps):
        for i, p in enumerate(params):
            p.grad = guarded.place(randn(p.numel(), seed=100 * step + i, dtype=grad_dtype))
        if grad_scale is not None:
            opt.grad_scale = torch.tensor(grad_scale)
            opt.found_inf = torch.tensor(0.0)
        opt.step()
    guarded.assert_whole()
    assert opt.steps_applied == steps
    momentum = [opt.state[p]["momentum_buffer"] for p in params if options["momentum"]]
    return [*params, *(p.grad for p in params), *momentum]


def assert_same(a: list[Tensor], b: list[Tensor]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert same_bits(x, y)


@pytest.mark.parametrize("grad_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_option_and_dtype(dtype: torch.dtype, grad_dtype: torch.dtype) -> None:
    sizes = (1, 33, 65, 1025)
    for options, grad_scale in itertools.product(OPTIONS, (None, 3.0)):
        args = (options, dtype, grad_dtype, sizes)
        mine = run("cpu", *args, grad_scale=grad_scale)
        assert_same(mine, run("reference", *args, grad_scale=grad_scale))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_size(dtype: torch.dtype) -> None:
    options = OPTIONS[-1]
    mine = run("cpu", options, dtype, dtype)
    assert_same(mine, run("reference", options, dtype, dtype))
    for i, (p, n) in enumerate(zip(mine, SIZES, strict=False)):
        assert same_bits(p, randn(n, seed=i, dtype=dtype)) == (n == 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_threads_cut_the_work_anywhere(dtype: torch.dtype, threads: None) -> None:
    """Equal shares of the work end inside tensors; every element is still updated once."""
    sizes = (70_001, 3, 65_536, 1, 0, 33_333)
    options = {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}
    expected = run("reference", options, dtype, dtype, sizes)
    for n in (1, 2, 3, 5, 8):
        torch.set_num_threads(n)
        assert_same(run("cpu", options, dtype, dtype, sizes), expected)


@pytest.mark.parametrize(
    ("sizes", "n_threads"),
    [
        pytest.param((40_001, 39_999), 2, id="a share ends between the tensors"),
        pytest.param((40_003, 40_001), 3, id="shares leave a rest, and the tensor one too"),
    ],
)
def test_neighbours_are_updated_once(sizes: tuple[int, int], n_threads: int, threads: None) -> None:
    """Whatever is done beyond a tensor's end is done to the one behind it in memory."""
    torch.set_num_threads(n_threads)
    memory, grads = torch.zeros(sum(sizes)), torch.ones(sum(sizes))
    params = [parameter(each) for each in memory.split(sizes)]
    for p, grad in zip(params, grads.split(sizes), strict=True):
        p.grad = grad
    SGD(params, lr=1.0, backend="cpu").step()
    assert bool((memory == -1).all())


@pytest.mark.parametrize("n_threads", [1, 3])
def test_groups_of_one_launch_have_their_own_rates_options_and_dtypes(
    n_threads: int, threads: None
) -> None:
    torch.set_num_threads(n_threads)
    results = []
    for backend in ("cpu", "reference"):
        first = models((70_001,), (5,))
        second = models((300,), (9,), dtype=torch.bfloat16)
        third = models((40_000,), dtype=torch.float64)
        groups = [
            {"params": first, "lr": 0.3, "momentum": 0.9, "dampening": 0.2},
            {"params": second, "lr": torch.tensor(0.2), "weight_decay": 0.1, "schedule": None},
            {"params": third, "momentum": 0.5, "nesterov": True, "maximize": True},
        ]
        opt = SGD(groups, lr=0.1, schedule=linear_warmup(2, 0.3), backend=backend)
        train(opt, 3)
        results.append(tensors_of(opt))
    assert_same(*results)


def laid_out(values: Tensor, layout: str) -> Tensor:
    """A tensor equal to ``values`` whose memory is laid out otherwise."""
    if layout == "contiguous":
        return values.clone(memory_format=torch.contiguous_format)
    if layout == "channels_last":
        return values.clone(memory_format=torch.channels_last)
    if layout == "transposed":
        return values.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    if layout == "sliced":
        return torch.full((*values.shape[:-1], 2 * values.shape[-1]), torch.nan)[..., ::2].copy_(
            values
        )
    assert layout == "expanded"
    return values[:, :1].clone().expand(values.shape)


@pytest.mark.parametrize("backend", [None, "cpu"])
@pytest.mark.parametrize(
    "grad_layout", ["contiguous", "channels_last", "transposed", "sliced", "expanded"]
)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
@pytest.mark.parametrize("size", [(3, 4, 2, 5), (2, 1, 3, 1), (1, 1, 1, 1), (2, 0, 3, 1)], ids=str)
def test_layouts(size, layout, grad_layout, backend) -> None:
    values = randn(*size, seed=1)
    p = parameter(laid_out(values, layout))
    plain = parameter(values.clone())
    strides = p.stride()
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}
    ours = SGD([p], backend=backend, **options)
    torchs = torch.optim.SGD([plain], foreach=False, **options)
    for step in range(3):
        grad = laid_out(randn(*size, seed=10 + step), grad_layout)
        before = grad.clone()
        p.grad, plain.grad = grad, grad.contiguous()
        ours.step()
        torchs.step()
        assert torch.equal(grad, before)
    assert p.stride() == strides
    assert same_bits(p, plain)
    assert same_bits(ours.state[p]["momentum_buffer"], torchs.state[plain]["momentum_buffer"])


@pytest.mark.parametrize("grad_layout", ["contiguous", "sliced", "expanded"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_unscaled_gradients_return_in_any_layout(backend: str, grad_layout: str) -> None:
    p = parameter(laid_out(randn(3, 4, 2, 5, seed=1), "channels_last"))
    opt = SGD([p], lr=0.1, backend=backend)
    grad = laid_out(randn(3, 4, 2, 5, seed=2), grad_layout)
    expected = grad / 4
    start = p.detach().clone()
    p.grad = grad
    opt.grad_scale, opt.found_inf = torch.tensor(4.0), torch.tensor(0.0)
    opt.step()
    assert torch.equal(p.grad, expected)
    assert (p.grad is grad) == (grad_layout != "expanded")
    assert torch.equal(p, torch.add(start, expected, alpha=-0.1))


def test_parameter_that_is_a_slice_of_something() -> None:
    """Memory with holes is not for the kernel; the holes stay as they are."""
    whole = torch.full((6, 8), torch.nan)
    whole[:, ::2] = randn(6, 4, seed=3)
    p = parameter(whole[:, ::2])
    plain = parameter(whole[:, ::2].clone())
    ours, torchs = SGD([p], lr=0.1, momentum=0.9), torch.optim.SGD([plain], lr=0.1, momentum=0.9)
    for step in range(2):
        p.grad = plain.grad = randn(6, 4, seed=step)
        ours.step()
        torchs.step()
    assert same_bits(p.contiguous(), plain)
    assert whole[:, 1::2].isnan().all()


def test_negated_gradient_of_one_element() -> None:
    """The gradient of a learnable phase can be a view whose sign torch flips when it reads it."""
    phase = torch.tensor(0.7, requires_grad=True)
    opt = SGD([phase], lr=0.5)
    for _ in range(3):
        opt.zero_grad()
        (torch.complex(torch.tensor(1.0), phase).conj() * (2 + 3j)).real.backward()
        assert phase.grad.is_neg()
        before, grad = phase.item(), phase.grad.item()
        opt.step()
        assert phase.item() == pytest.approx(before - 0.5 * grad)


def test_negated_parameter_of_one_element() -> None:
    """Torch reads its memory with the opposite sign, which a kernel must not write as it is."""
    whole = torch.complex(torch.tensor(1.0), torch.tensor(-2.0))
    p = parameter(whole.conj().imag)
    assert p.is_neg()
    opt = SGD([p], lr=0.5, momentum=0.9)
    for expected in (1.5, 0.55):
        p.grad = torch.ones(())
        opt.step()
        assert p.item() == pytest.approx(expected)
    assert whole.imag.item() == -p.item()
    with pytest.raises(TypeError, match=r"is a negated view .*backend='cpu' needs a tensor"):
        SGD([p], backend="cpu")


def test_follows_torchs_capability() -> None:
    assert capability() == torch.backends.cpu.get_cpu_capability()


def test_non_finite_values_pass_through() -> None:
    values = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, -0.0, 1e-42, 3e38])
    for dtype in DTYPES:
        results = []
        for backend in ("cpu", "reference"):
            p = parameter(values.to(dtype, copy=True))
            opt = SGD([p], lr=0.5, momentum=0.9, backend=backend)
            for grad in (values.flip(0), torch.ones(7)):
                p.grad = grad.to(dtype)
                opt.step()
            results.append(copies([p, opt.state[p]["momentum_buffer"]]))
        for a, b in zip(*results, strict=True):
            assert torch.equal(a.isnan(), b.isnan())
            assert same_bits(a.nan_to_num(7.0), b.nan_to_num(7.0))
