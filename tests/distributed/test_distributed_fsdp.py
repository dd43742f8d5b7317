"""FSDP2 and DTensor: kernels on local shards, state as DTensor, the numbers of one process."""

import pytest
import torch
from distributed import fsdp_cases
from distributed.common import STEPS, averaged_step, make_optimizer, single_process, values_of
from support import same_bits
from support.pool import ranks
from torch import Tensor


def compare(values: list[Tensor], expected: list[Tensor], *, exactly: bool) -> None:
    for value, wanted in zip(values, expected, strict=True):
        if exactly:
            assert same_bits(value, wanted)
        else:
            torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mesh", [(2,), (4,), (2, 2)], ids=["2", "4", "2x2"])
def test_shards_end_with_the_bits_of_one_process(mesh: tuple[int, ...]) -> None:
    """Two gradients have one sum; four are summed in an order that is gloo's own."""
    world = 2 if mesh == (2,) else 4
    answers = ranks(world)(fsdp_cases.train, STEPS, mesh)
    assert all(answer[0] == answers[0][0] for answer in answers)
    for fingerprint, values, parts in answers:
        assert parts == ["ShardedPlan"]  # one launch for all
        assert fingerprint[1] == STEPS
        compare(values, single_process(world), exactly=world == 2)


def test_shards_of_columns() -> None:
    answers = ranks(2)(fsdp_cases.split_by_columns, 5)
    model = fsdp_cases.make_columns()
    opt = make_optimizer(model)
    for step in range(5):
        losses = [model(fsdp_cases.columns_batch(step, r)).square().mean() for r in (0, 1)]
        averaged_step(model, opt, losses)
    for fingerprint, values, parts in answers:
        assert fingerprint == answers[0][0]
        assert parts == ["ShardedPlan"]
        compare(values, values_of(opt), exactly=True)


def test_mixed_precision_policy() -> None:
    expected = fsdp_cases.low_precision_alone(STEPS)
    for _, values, parts in ranks(2)(fsdp_cases.low_precision, STEPS, True):
        assert parts == ["ShardedPlan"]
        compare(values, expected, exactly=True)
    for _, values, parts in ranks(2)(fsdp_cases.low_precision, STEPS, False):
        assert parts == ["ReferencePlan"]
        compare(values, expected, exactly=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_trajectory_is_that_of_torch_sgd(dtype: torch.dtype) -> None:
    """Gradients clipped by their norm over all ranks on the way."""
    for ours, theirs, parts in ranks(2)(fsdp_cases.beside_torch, STEPS, dtype):
        assert parts == ["ShardedPlan"]
        assert ours == theirs


@pytest.mark.parametrize("native", [True, False], ids=["native", "reference"])
def test_one_rank_overflows_and_all_skip(native: bool) -> None:
    """GradScaler agrees over DTensor gradients on the device, before the step reads found_inf."""
    answers = ranks(2)(fsdp_cases.overflow, 6, {0: 0, 2: 1, 3: 0}, native)
    model = fsdp_cases.make_model()
    opt = make_optimizer(model)
    for step in (1, 4, 5):
        averaged_step(model, opt, [fsdp_cases.loss_of(model, step, r) for r in (0, 1)])
    for fingerprint, values, counts in answers:
        assert counts == [0, 1, 1, 1, 2, 3]
        assert fingerprint == answers[0][0]
        compare(values, values_of(opt), exactly=True)


@pytest.mark.parametrize("mixed", [False, True], ids=["all sharded", "one layer whole"])
def test_clipping_in_the_step_is_by_the_norm_over_all_ranks(mixed: bool) -> None:
    """Under a scaler, whose skips all ranks share: the norm is not finite on any of them."""
    answers = ranks(2)(fsdp_cases.clipped_in_the_step, 6, {0: 0, 2: 1, 3: 0}, 0.3, mixed)
    model = fsdp_cases.make_model()
    opt = make_optimizer(model)
    for step in (1, 4, 5):
        averaged_step(model, opt, [fsdp_cases.loss_of(model, step, r) for r in (0, 1)], 0.3)
    unclipped = fsdp_cases.make_model()
    free = make_optimizer(unclipped)
    for step in (1, 4, 5):
        averaged_step(unclipped, free, [fsdp_cases.loss_of(unclipped, step, r) for r in (0, 1)])
    assert not torch.allclose(values_of(opt)[0], values_of(free)[0], rtol=1e-4)
    for fingerprint, values, counts in answers:
        assert counts == [0, 1, 1, 1, 2, 3]
        assert fingerprint == answers[0][0]
        compare(values, values_of(opt), exactly=False)


def test_flat_shards_that_could_skip_alone_are_refused() -> None:
    for message in ranks(2)(fsdp_cases.flat_parameters):
        assert "scaler.unscale_" in message
        assert "unscale=False" in message


def test_tensor_parallel() -> None:
    answers = ranks(2)(fsdp_cases.tensor_parallel, 5)
    model = fsdp_cases.make_columns()
    opt = make_optimizer(model)
    for step in range(5):
        averaged_step(model, opt, [model(fsdp_cases.columns_batch(step, 0)).square().mean()])
    for fingerprint, values, parts in answers:
        assert fingerprint == answers[0][0]
        assert parts == ["ShardedPlan"]
        # Row-parallel layers sum their products in two parts.
        compare(values, values_of(opt), exactly=False)


def test_a_gradient_split_otherwise_takes_torchs_way() -> None:
    for same, routes, again, message in ranks(2)(fsdp_cases.gradient_split_otherwise):
        assert same
        assert routes == ["ShardedPlan", "ReferencePlan"]
        assert again == ["ShardedPlan"]
        assert "split over ranks" in message
        assert "backend=None" in message


@pytest.mark.parametrize(("momenta", "expected"), [((1.0, 1.0), [0, 0]), ((0.0, 1.0), [-1, 1])])
def test_ranks_without_elements_mark_first_steps_too(
    momenta: tuple[float, ...], expected: list[int]
) -> None:
    """A step without momentum is no first step on any rank."""
    answers = ranks(2)(fsdp_cases.empty_shards, *momenta)
    assert [empty for _, _, empty in answers] == [False, True]
    for marks, parts, _ in answers:
        assert parts == ["ShardedPlan"]
        assert marks == [-1, -1, *expected]


def test_autograd_sees_the_step() -> None:
    for errors in ranks(2)(fsdp_cases.stale_graph):
        assert len(errors) == 2
        assert all("modified" in error and "inplace" in error for error in errors)


def test_a_replaced_local_tensor_is_noticed() -> None:
    assert ranks(2)(fsdp_cases.replaced_local) == [True, True]
