"""Averages and float32 masters on a GPU: the reference's bits, in one launch and in graphs."""

from typing import Any

import pytest
import torch
from support import DTYPE_PAIRS, set_grads, tensors_of
from support.gpu_cases import (
    FULL,
    NEEDS_GPU,
    TRAINING,
    assert_same,
    captured,
    parameters,
    syncs_are_errors,
)

from benchmarks.trace import trace_of
from fused_warmup import SGD
from fused_warmup.schedules import linear_warmup

pytestmark = [*NEEDS_GPU, pytest.mark.parametrize("backend", ["cuda", "triton"])]

SIZES = (1, 5, 64, 257, 5003, 100_003)
AVERAGES: dict[str, Any] = {"ema_decay": 0.9}
EXTRAS = [
    {**AVERAGES, "ema_every": 2, "ema_schedule": linear_warmup(4)},
    {**AVERAGES, "ema_start": 1, "master_weights": True},
]


def averaged(
    backend: str,
    extras: dict[str, Any] = AVERAGES,
    dtypes: tuple[torch.dtype, torch.dtype] = DTYPE_PAIRS[0],
    offset: int = 0,
) -> SGD:
    params = parameters(*dtypes, sizes=SIZES, offset=offset)
    return SGD(params, lr=0.1, schedule=TRAINING, backend=backend, **FULL, **extras)


def params_of(opt: SGD) -> list[torch.Tensor]:
    return list(opt.param_groups[0]["params"])


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("extras", EXTRAS, ids=["averages", "masters"])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_equals_reference(backend: str, dtypes: Any, extras: dict[str, Any], offset: int) -> None:
    runs = [averaged(name, extras, dtypes, offset) for name in (backend, "reference")]
    for opt in runs:
        for step in range(4):
            set_grads(params_of(opt), step)
            opt.step()
    assert_same(*map(tensors_of, runs))


def test_a_step_is_one_kernel_that_waits_for_nothing(backend: str) -> None:
    opt = averaged(backend, EXTRAS[1], DTYPE_PAIRS[1])
    scaler = torch.amp.GradScaler("cuda")
    scaler.scale(torch.ones((), device="cuda"))
    for _ in range(2):  # the second finds out whether the first has started averages
        scaler.step(opt)
        scaler.update()
    with syncs_are_errors():
        for _ in range(3):
            scaler.step(opt)
            scaler.update()
    trace = trace_of(opt.step, steps=10)
    assert len(trace.kernels) == 10, trace
    assert (trace.copies, trace.syncs) == (0, ())


def test_replays_move_averages(backend: str) -> None:
    ours, other = (averaged(backend, EXTRAS[0]) for _ in range(2))
    graph = captured(ours.step, 3)
    for _ in range(3):
        other.step()
    for step in range(6):
        set_grads(params_of(other), step)
        for p, q in zip(params_of(ours), params_of(other), strict=True):
            p.grad.copy_(q.grad)  # type: ignore[union-attr]
        graph.replay()
        other.step()
    assert ours.steps_applied == other.steps_applied
    assert_same(*map(tensors_of, (ours, other)))


def test_averages_start_with_the_model_of_the_first_step_that_is_not_skipped(backend: str) -> None:
    """The host learns at the next step whether the one before was skipped."""
    runs = [averaged(name) for name in (backend, "reference")]
    for opt in runs:
        opt.grad_scale = torch.ones((), device="cuda")
        for call, found_inf in enumerate((1.0, 1.0, 0.0, 1.0, 0.0)):
            if call < 3:
                for p in params_of(opt):
                    p.data.fill_(float(call))  # as a model that is loaded
            opt.found_inf = torch.tensor(found_inf, device="cuda")
            opt.step()
    assert_same(*map(tensors_of, runs))
