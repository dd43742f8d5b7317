"""DDP: every rank ends with the same bits, those of one process, and the step says nothing."""

from typing import Any

import pytest
import torch
from distributed import ddp_cases
from distributed.common import (
    STEPS,
    averaged_step,
    loss_of,
    make_model,
    make_optimizer,
    single_process,
    values_of,
)
from support import same_bits
from support.pool import ranks

VIEWS = pytest.mark.parametrize("view", [False, True], ids=["copies", "bucket_view"])


def agree(answers: list[tuple[Any, list[torch.Tensor]]]) -> list[torch.Tensor]:
    """Assert that all ranks have one fingerprint; return the values."""
    assert all(fingerprint == answers[0][0] for fingerprint, _ in answers)
    return answers[0][1]


def equal_to_one_process(
    values: list[torch.Tensor], expected: list[torch.Tensor], world: int
) -> None:
    # Two numbers have one sum; four are added in an order that is gloo's own. An update is
    # contractive here, so the last bits of a gradient stay the last bits of a parameter.
    for value, wanted in zip(values, expected, strict=True):
        if world == 2:
            assert same_bits(value, wanted)
        else:
            torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-7)


@VIEWS
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_end_with_the_bits_of_one_process(world: int, view: bool) -> None:
    options = {"gradient_as_bucket_view": view}
    values = agree(ranks(world)(ddp_cases.train, STEPS, options))
    equal_to_one_process(values, single_process(world), world)


def test_static_graph_and_small_buckets() -> None:
    options = {"static_graph": True, "bucket_cap_mb": 0.0001}
    values = agree(ranks(2)(ddp_cases.train, STEPS, options))
    equal_to_one_process(values, single_process(2), 2)


@VIEWS
def test_accumulation_without_sync(view: bool) -> None:
    micro, steps = 3, 4
    values = agree(ranks(2)(ddp_cases.accumulate, view, steps, micro))
    model = make_model()
    opt = make_optimizer(model)
    for step in range(steps):
        losses = [
            sum(loss_of(model, step * micro + i, rank) for i in range(micro)) for rank in (0, 1)
        ]
        averaged_step(model, opt, losses)
    for value, wanted in zip(values, values_of(opt), strict=True):
        # One process sums the micro-batches in another order inside autograd.
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-7)


@VIEWS
def test_frozen_and_unused_parameters(view: bool) -> None:
    answers = ranks(4)(ddp_cases.branches, view, 7)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["moved"] == [False, False, True, True, True, True, True]
    assert answers[0]["untouched"]
    assert answers[0]["mark"] == 2  # its own first step, though three ranks did not use it
    assert answers[0]["fingerprint"][1] == 7


def test_uneven_inputs_end_with_one_state() -> None:
    answers = ranks(4)(ddp_cases.join, [3, 5, 2, 4], True)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][1] == [5, 10]


def test_without_joined_the_ranks_drift_apart() -> None:
    """The reason for it: DDP brings parameters together, and nothing else."""
    answers = ranks(2)(ddp_cases.join, [2, 4], False)
    assert [seen for _, seen in answers] == [[2, 4], [4, 8]]


def test_a_step_communicates_nothing() -> None:
    for backward, step in ranks(2)(ddp_cases.communication):
        assert backward > 0
        assert step == 0
