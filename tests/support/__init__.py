"""What the tests of the optimizer share: its options, tensors, and comparisons to the bit."""

import copy
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from fused_warmup import SGD

PATIENCE = 900.0
"""Seconds for a process of a test: to end one that hangs, whatever else the machine does."""

WHOLE = bool(os.environ.get("FUSED_WARMUP_WHOLE_TESTS"))
"""Whether large matrices are tested as a whole, by `make test-all`, and not by a sample."""

OPTIONS: list[dict[str, Any]] = [
    {
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "maximize": maximize,
    }
    for momentum, dampening, nesterov, weight_decay, maximize in itertools.product(
        (0.0, 0.9), (0.0, 0.3), (False, True), (0.0, 0.01), (False, True)
    )
    if not nesterov or (momentum and not dampening)
]
"""Every combination that torch.optim.SGD takes; dampening without momentum must do nothing."""

DTYPE_PAIRS = [
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float16),
    (torch.float64, torch.float64),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
    (torch.bfloat16, torch.float32),
    (torch.float64, torch.float16),
]
"""Of a parameter and its gradient; float32, both alike and float32 with less have own kernels."""

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def whole(cases: Sequence[Any]) -> Sequence[Any]:
    """Return cases that others are a sample of: all in `make test-all`, else none."""
    return cases if WHOLE else ()


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same bits, the sign of a zero and NaN included."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.is_complex():
        a, b = torch.view_as_real(a.resolve_conj()), torch.view_as_real(b.resolve_conj())
    kind = BITS[a.element_size()]
    return torch.equal(a.detach().contiguous().view(kind), b.detach().contiguous().view(kind))


def sampled(cases: Sequence[Any], nth: int = 5) -> list[Any]:
    """Every nth case of a matrix; all of them in `make test-all`. nth is prime to each axis."""
    return list(cases) if WHOLE else list(cases)[::nth]


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers that depend on the shape and the seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def parameter(values: Tensor, grad_dtype: torch.dtype | None = None) -> Tensor:
    """A leaf over the memory of ``values`` whose gradients may be of another dtype."""
    p = values.detach().requires_grad_()
    if grad_dtype is not None:
        p.grad_dtype = grad_dtype
    return p


def set_grads(params: Sequence[Tensor], step: int) -> None:
    """Give each parameter a gradient that depends on its place and the step alone."""
    for i, p in enumerate(params):
        dtype = p.grad_dtype or p.dtype
        p.grad = randn(*p.shape, seed=1000 * step + i).to(p.device, dtype)


def tensors_of(opt: torch.optim.Optimizer) -> list[Tensor]:
    """Every tensor that a step may write: parameters, gradients, state, in a fixed order."""
    found = []
    for group in opt.param_groups:
        for p in group["params"]:
            found.append(p)
            if p.grad is not None:
                found.append(p.grad)
            state = opt.state.get(p, {})
            found += [state[k] for k in sorted(state) if isinstance(state[k], Tensor)]
    return found


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]


@contextmanager
def nothing_moves(opt: SGD) -> Iterator[None]:
    """Asserts that the block leaves every tensor's object and bits, the groups and the count."""
    before, rates = tensors_of(opt), opt.get_last_lr()
    saved, count = copies(before), opt.steps_applied
    groups = [{k: v for k, v in group.items() if k != "params"} for group in opt.param_groups]
    groups = copy.deepcopy(groups)
    yield
    after = tensors_of(opt)
    assert [id(t) for t in after] == [id(t) for t in before]
    assert all(map(same_bits, after, saved))
    assert (opt.steps_applied, opt.get_last_lr()) == (count, rates)
    now = [{k: v for k, v in group.items() if k != "params"} for group in opt.param_groups]
    assert repr(now) == repr(groups)


@contextmanager
def refused(opt: SGD, error: type[Exception], *words: str) -> Iterator[None]:
    """Asserts that the block raises ``error`` naming all of ``words``, and that nothing moved."""
    with nothing_moves(opt), pytest.raises(error) as caught:
        yield
    for word in words:
        assert word in str(caught.value)


def train(
    opt: torch.optim.Optimizer,
    steps: int,
    *,
    first: int = 0,
    after: Callable[[int], object] = lambda step: None,
) -> list[list[Tensor]]:
    """Step with the gradients of `set_grads`; return a copy of all parameters after each step."""
    params = [p for group in opt.param_groups for p in group["params"]]
    history = []
    for step in range(first, first + steps):
        set_grads(params, step)
        opt.step()
        after(step)
        history.append(copies(params))
    return history


def offset_models(
    shapes: Sequence[tuple[int, ...]],
    dtypes: tuple[torch.dtype, torch.dtype],
    offset: int,
) -> list[Tensor]:
    """Parameters that begin ``offset`` elements into their memory; dtypes: theirs, gradients'."""
    params = []
    for i, shape in enumerate(shapes):
        values = randn(torch.Size(shape).numel() + offset, seed=i, dtype=dtypes[0])[offset:]
        params.append(parameter(values.view(shape), dtypes[1]))
    return params


def models(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Parameters of these shapes; two calls give equal ones."""
    return [parameter(randn(*shape, seed=i, dtype=dtype)) for i, shape in enumerate(shapes)]
