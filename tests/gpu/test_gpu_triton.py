"""The Triton kernel on a GPU, bit for bit beside the reference, and how it is launched."""

from typing import Any

import pytest
import torch
from support import DTYPE_PAIRS, OPTIONS
from support.gpu_cases import (
    EXACT,
    FULL,
    NEEDS_GPU,
    TRAINING,
    assert_equal_steps,
    assert_rates,
    assert_same,
    parameters,
    rates,
    syncs_are_errors,
    with_momentum_schedules,
)
from torch import Tensor

from benchmarks.trace import trace_of
from fused_warmup import SGD, backends

pytestmark = NEEDS_GPU


def triton_sgd(params: Any, **options: Any) -> SGD:
    return SGD(params, **{"lr": 0.1, "backend": "triton", **options})


def test_kernel_is_there() -> None:
    assert backends()["triton"].available, backends()["triton"].reason


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_reference_for_all_options(options: dict[str, Any]) -> None:
    def make(backend: str) -> tuple[SGD, list[Tensor]]:
        params = parameters()
        return SGD(params, lr=0.1, schedule=EXACT, backend=backend, **options), params

    assert_equal_steps(make, "triton")


def test_equals_reference_under_schedules_of_the_momentum() -> None:
    assert_equal_steps(with_momentum_schedules, "triton", steps=5)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_equals_reference_for_all_dtypes(dtypes: tuple, offset: int) -> None:
    def make(backend: str) -> tuple[SGD, list[Tensor]]:
        params = parameters(*dtypes, offset=offset)
        return SGD(params, lr=0.1, schedule=EXACT, backend=backend, **FULL), params

    assert_equal_steps(make, "triton")


def test_groups_of_one_launch() -> None:
    def make(backend: str) -> tuple[SGD, list[Tensor]]:
        first, second = parameters(sizes=(70, 5003)), parameters(torch.bfloat16, sizes=(300, 9))
        groups = [
            {"params": first, "lr": 0.3, **FULL},
            {"params": second, "lr": torch.tensor(0.2, device="cuda"), "schedule": EXACT},
        ]
        return SGD(groups, lr=0.1, schedule=EXACT, backend=backend), first + second

    assert_equal_steps(make, "triton", steps=5)


def test_rates_are_those_of_float64() -> None:
    opt = triton_sgd(parameters(sizes=(3,)), schedule=TRAINING)
    history = torch.empty(1000, dtype=torch.float64, device="cuda")
    for t in range(1000):
        opt.step()
        history[t] = opt.lr_tensor()[0]
    assert_rates(history, rates(TRAINING, 0.1, 1000))


@pytest.mark.parametrize("found_inf", [1.0, 2.0, float("nan")])
def test_skipped_step_changes_nothing(found_inf: float) -> None:
    params = parameters()
    opt = triton_sgd(params, **FULL)
    opt.step()
    before = [p.detach().clone() for p in params]
    opt.found_inf = torch.tensor(found_inf, device="cuda")
    opt.step()
    assert opt.steps_applied == 1
    assert_same(params, before)
    opt.found_inf = torch.tensor(0.0, device="cuda")
    opt.step()
    assert opt.steps_applied == 2
    assert not torch.equal(params[-1], before[-1])


def test_gradients_are_unscaled_and_written_back() -> None:
    runs = []
    for backend in ("triton", "reference"):
        params = parameters()
        opt = SGD(params, lr=0.1, backend=backend, **FULL)
        opt.grad_scale = torch.tensor(3.0, device="cuda")
        opt.found_inf = torch.tensor(0.0, device="cuda")
        opt.step()
        runs.append([*params, *[p.grad for p in params]])
    assert_same(*runs)


def test_steady_steps_never_make_the_host_wait() -> None:
    params = parameters()
    opt = triton_sgd(params, schedule=TRAINING, **FULL)
    for _ in range(3):
        opt.step()
    with syncs_are_errors():
        for _ in range(5):
            for p in params:
                p.grad = torch.ones_like(p)
            opt.step()


def test_steady_step_is_one_kernel_without_copies_or_syncs() -> None:
    opt = triton_sgd(parameters(), schedule=TRAINING, **FULL)
    for _ in range(3):
        opt.step()
    trace = trace_of(opt.step, steps=10)
    assert len(trace.kernels) == 10, trace
    assert all("sgd_step" in name for name in trace.kernels)
    assert (trace.copies, trace.syncs) == (0, ())


def test_step_runs_on_the_current_stream() -> None:
    p = torch.zeros(1000, device="cuda", requires_grad=True)
    p.grad = torch.zeros_like(p)
    opt = triton_sgd([p], lr=1.0)
    opt.step()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        p.grad.fill_(2.0)
        opt.step()
    torch.cuda.synchronize()
    assert bool((p == -2).all())


def test_uploads_keep_up_with_gradients_that_move() -> None:
    sizes = (40, 300, 5003)
    p_ours, p_reference = parameters(sizes=sizes), parameters(sizes=sizes)
    ours, reference = triton_sgd(p_ours, **FULL), SGD(p_reference, 0.1, backend="reference", **FULL)
    rounds = [[torch.full((n,), 0.1 * (i + 1), device="cuda") for n in sizes] for i in range(12)]
    torch.cuda._sleep(100_000_000)
    for opt, params in ((ours, p_ours), (reference, p_reference)):
        for i, grads in enumerate(rounds):
            for k, (p, grad) in enumerate(zip(params, grads, strict=True)):
                p.grad = None if i % 4 == k else grad
            opt.step()
    assert_same(p_ours, p_reference)
