"""Attached schedules over DTensors: one rate for all ranks, as a tensor or as numbers."""

import pytest
import torch
from distributed import attach_cases as cases
from support.pool import ranks

STEPS = 7


@pytest.mark.parametrize("kind", cases.MAKERS)
def test_trains_under_fully_shard_as_alone(kind: str) -> None:
    values, count, rates, held = cases.trained(kind, STEPS, split=False)
    assert (count, held) == (STEPS, "float" if kind == "numbers" else "Tensor")
    for found, *rest in ranks(2)(cases.sharded, kind, STEPS):
        assert rest == [count, rates, held]
        for value, expected in zip(found, values, strict=True):
            # torch's fused loop rounds the rest of a tensor otherwise, and shards end elsewhere.
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
