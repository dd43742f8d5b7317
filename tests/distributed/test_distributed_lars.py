"""LARS over ranks: norms of whole tensors from one small collective, the numbers of one process."""

from pathlib import Path

import pytest
import torch
from distributed import lars_cases
from support import same_bits
from support.pool import ranks
from torch import Tensor

from fused_warmup import LARS

STEPS = 6


def assert_close(values: list[Tensor], expected: list[Tensor]) -> None:
    """Shards' sums of squares are added in another order: some roundings of float32 a step."""
    for value, wanted in zip(values, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("native", [True, False], ids=["native", "reference"])
@pytest.mark.parametrize("mesh", [(2,), (2, 2)], ids=["2", "2x2"])
def test_shards_are_measured_together(mesh: tuple[int, ...], native: bool) -> None:
    """With one collective a step, also where shards have replicas; and each rank gets all bits."""
    world = 2 if mesh == (2,) else 4
    backend = None if native else "reference"
    answers = ranks(world)(lars_cases.sharded, STEPS, mesh, -1, backend)
    expected = lars_cases.alone(world, STEPS)
    for fingerprint, values, parts, collectives in answers:
        assert fingerprint == answers[0][0]
        assert parts == (["ShardedPlan"] if native else ["ReferencePlan"])
        assert collectives == 1
        assert_close(values, expected)


def test_a_run_over_shards_repeats_to_the_bit() -> None:
    first, second = (ranks(2)(lars_cases.sharded, STEPS, (2,)) for _ in range(2))
    assert [answer[0] for answer in first] == [answer[0] for answer in second]


def test_a_skipped_step_is_skipped_by_all_ranks() -> None:
    answers = ranks(2)(lars_cases.sharded, STEPS, (2,), 2)
    expected = lars_cases.alone(2, STEPS, 2)
    for fingerprint, values, _, _ in answers:
        assert fingerprint[1] == STEPS - 1
        assert_close(values, expected)


def test_tensor_parallelism() -> None:
    answers = ranks(2)(lars_cases.tensor_parallel, STEPS)
    expected = lars_cases.alone(1, STEPS, hidden=12)
    for fingerprint, values, _ in answers:
        assert fingerprint == answers[0][0]
        assert_close(values, expected)


def test_replicas_under_ddp_have_the_bits_of_one_process() -> None:
    expected = lars_cases.alone(2, STEPS)
    for fingerprint, values in ranks(2)(lars_cases.replicated, STEPS):
        assert fingerprint[1] == STEPS
        assert all(map(same_bits, values, expected))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_checkpoints_go_to_another_world_size(tmp_path: Path) -> None:
    """State has the same bits everywhere; from there on norms are added up by fewer or more."""
    saved = str(tmp_path)
    first = ranks(2)(lars_cases.checkpointed, "fsdp", 0, 3, "", saved)
    undisturbed = ranks(2)(lars_cases.checkpointed, "fsdp", 0, 5)
    (_, _, expected), _ = undisturbed
    resumed = [
        *ranks(2)(lars_cases.checkpointed, "fsdp", 3, 2, saved),
        *ranks(4)(lars_cases.checkpointed, "fsdp", 3, 2, saved),
        lars_cases.checkpointed("alone", 3, 2, saved),
    ]
    for loaded, _, values in resumed:
        assert loaded == first[0][1]
        assert_close(values, expected)
    assert [ended for _, ended, _ in resumed[:2]] == [ended for _, ended, _ in undisturbed]
    assert len({ended[0] for _, ended, _ in resumed[2:6]}) == 1


def test_flat_shards_are_refused() -> None:
    p = torch.ones(3, requires_grad=True)
    p._fsdp_flattened = True  # type: ignore[attr-defined]
    opt = LARS([p], lr=1.0)
    p.grad = torch.ones(3)
    with pytest.raises(TypeError, match=r"FSDP1.*fully_shard"):
        opt.step()
    assert p.tolist() == [1.0] * 3
