"""LARS on a GPU: the reference's bits, averages and masters too, in two launches and in graphs."""

from typing import Any

import pytest
import torch
from support import DTYPE_PAIRS, copies, set_grads, tensors_of
from support.gpu_cases import NEEDS_GPU, TRAINING, assert_same, captured, syncs_are_errors
from support.lars import EXTRAS, LARS_OPTIONS, trained

from benchmarks.trace import trace_of
from fused_warmup import LARS

pytestmark = [*NEEDS_GPU, pytest.mark.parametrize("backend", ["cuda", "triton"])]

OPTIONS: dict[str, Any] = {"momentum": 0.9, "weight_decay": 0.01, "trust_coefficient": 0.1}


def on_gpu(backend: str, options: dict[str, Any] = OPTIONS, *dtypes: Any, **more: Any) -> LARS:
    return trained({**OPTIONS, **options}, *dtypes, backend=backend, device="cuda", **more)


def assert_equal(backend: str, options: dict[str, Any], *dtypes: Any, **more: Any) -> None:
    runs = [on_gpu(name, options, *dtypes, **more) for name in (backend, "reference")]
    assert_same(*map(tensors_of, runs))


@pytest.mark.parametrize("options", LARS_OPTIONS[::7], ids=str)
def test_equals_reference_for_all_options(backend: str, options: dict[str, Any]) -> None:
    assert_equal(backend, options)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("extras", [{}, EXTRAS, {**EXTRAS, "ema_start": 1}], ids=str)
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_equals_reference_for_all_dtypes(
    backend: str, dtypes: Any, extras: dict[str, Any], offset: int
) -> None:
    assert_equal(backend, extras, dtypes, scale=1024.0, offset=offset)


def test_norms_of_large_tensors_repeat_to_the_bit(backend: str) -> None:
    """Whichever block is through last; a tensor of several chunks, and of larger ones."""
    shapes = ((3,), (4097,), (1_000_003,), (20_000_003,))
    first, second = (on_gpu(backend, shapes=shapes) for _ in range(2))
    assert_same(tensors_of(first), tensors_of(second))


def test_a_skipped_step_changes_nothing(backend: str) -> None:
    opt = on_gpu(backend, EXTRAS)
    before = copies(tensors_of(opt))
    opt.found_inf = torch.tensor(1.0, device="cuda")
    opt.step()
    assert_same(tensors_of(opt), before)
    assert opt.steps_applied == 3


def test_a_step_is_two_kernels_that_wait_for_nothing(backend: str) -> None:
    opt = on_gpu(backend, EXTRAS)
    with syncs_are_errors():
        for _ in range(3):
            opt.step()
    trace = trace_of(opt.step, steps=10)
    assert len(trace.kernels) == 20, trace
    assert (trace.copies, trace.syncs) == (0, ())


def test_replays_have_the_norms_and_the_rate_of_their_step(backend: str) -> None:
    ours, other = (on_gpu(backend, {**EXTRAS, "schedule": TRAINING}) for _ in range(2))
    params = [[p for g in opt.param_groups for p in g["params"]] for opt in (ours, other)]
    graph = captured(ours.step, 3)
    for _ in range(3):
        other.step()
    for step in range(5):
        set_grads(params[1], step)
        for p, q in zip(*params, strict=True):
            p.grad.copy_(q.grad)  # type: ignore[union-attr]
        graph.replay()
        other.step()
    assert ours.steps_applied == other.steps_applied
    assert_same(*map(tensors_of, (ours, other)))
