"""What the tests on a GPU share: cases, the comparison with the reference, and graph capture."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fused_warmup import SGD, Schedule
from fused_warmup.schedules import constant, cosine, linear_warmup, table
from support import same_bits

NEEDS_GPU = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    # torch's word that a thread of autograd met cuBLAS before any other CUDA call.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS"),
]

# Around the elements of a 16-byte access, of a warp's, of a cut's multiple, of a share.
SIZES = (0, 1, 3, 4, 5, 63, 64, 65, 127, 255, 256, 257, 511, 513, 5003, 30_011, 1_000_003)
FULL = {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}

# Rational in every step, so that float64 rates are equal to the last bit on host and device.
EXACT = linear_warmup(7, start=0.25)
# All of a training: up, down, and a rest at the end.
TRAINING = linear_warmup(200).then(cosine(700, end=0.1)).then(constant(0.1))

Make = Callable[[str], tuple[SGD, list[Tensor]]]


def parameters(
    dtype: torch.dtype = torch.float32,
    grad_dtype: torch.dtype | None = None,
    sizes: Sequence[int] = SIZES,
    offset: int = 0,
    device: str = "cuda",
) -> list[Tensor]:
    """Parameters with gradients; `offset` elements keep them from a 16-byte boundary."""
    generator = torch.Generator().manual_seed(7)
    params = []
    for size in sizes:
        values = torch.randn(size + offset, generator=generator)
        grads = torch.randn(size + offset, generator=generator)
        p = values.to(device, dtype)[offset:].requires_grad_()
        p.grad_dtype = grad_dtype or dtype
        p.grad = grads.to(device, grad_dtype or dtype)[offset:]
        params.append(p)
    return params


def assert_equal_steps(make: Make, backend: str, steps: int = 3) -> SGD:
    """Step one optimizer of the backend and one of the reference, and compare every bit."""
    runs = [make(backend), make("reference")]
    for step in range(steps):
        for opt, params in runs:
            opt.step()
            for i, p in enumerate(params):
                if p.grad is not None:
                    generator = torch.Generator().manual_seed(1000 * step + i)
                    p.grad.copy_(torch.randn(p.shape, generator=generator))
    (ours, mine), (reference, theirs) = runs
    assert_same(mine, theirs)
    assert any(bool((p != 0).any()) for p in mine)
    for p, q in zip(mine, theirs, strict=True):
        for key in ("momentum_buffer", "first_step"):
            assert (key in ours.state[p]) == (key in reference.state[q])
            if key in ours.state[p] and p.numel() > 0:  # no kernel visits an empty tensor's mark
                assert_same([ours.state[p][key]], [reference.state[q][key]])
    assert ours.steps_applied == reference.steps_applied == steps
    assert_rates(torch.tensor(ours.get_last_lr()), reference.get_last_lr())
    return ours


def with_momentum_schedules(backend: str) -> tuple[SGD, list[Tensor]]:
    """Groups with and without one; at its zeros the buffer stays, and a first step is none yet."""
    groups = [
        {"params": parameters()},
        {"params": parameters(), "momentum_schedule": None},
        {"params": parameters(), "dampening": 0.0, "schedule": EXACT},
    ]
    momentum = table((0.0, 0.5, 1.0, 0.0, 0.25))
    opt = SGD(groups, lr=0.1, momentum_schedule=momentum, backend=backend, **FULL)
    return opt, [p for group in groups for p in group["params"]]


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert same_bits(a.cpu(), b.cpu()), (
            f"tensor {i} of shape {tuple(a.shape)}, {a.dtype} differs"
        )


def assert_rates(found: Tensor, expected: Sequence[float]) -> None:
    """Compare rates with float64 ones, to one unit in the last place of float32."""
    wanted = np.asarray(expected, np.float64)
    tolerance = np.spacing(np.abs(wanted).astype(np.float32)).astype(np.float64)
    error = np.abs(found.double().cpu().numpy().reshape(wanted.shape) - wanted)
    worst = int(np.argmax(error / tolerance))
    assert (error <= tolerance).all(), f"rate {worst}: {found.reshape(-1)[worst]}, {wanted[worst]}"


def rates(schedule: Schedule, lr: float, steps: int) -> list[float]:
    return [lr * schedule(t) for t in range(steps)]


@contextmanager
def syncs_are_errors() -> Iterator[None]:
    """Let torch raise where it makes the host wait for the device."""

    def set_mode(mode: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that the mode is a prototype
            torch.cuda.set_sync_debug_mode(mode)

    set_mode("error")
    try:
        yield
    finally:
        set_mode("default")


def captured(run: Callable[[], Any], warmups: int = 3) -> torch.cuda.CUDAGraph:
    """Run a few times on a side stream, as graphs want it, and capture one run more."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warmups):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph
