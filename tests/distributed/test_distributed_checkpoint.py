"""Checkpoints of distributed runs: any world size takes over from any other, in mid-warm-up."""

from pathlib import Path

import pytest
import torch
from distributed import checkpoint_cases as cases
from distributed.common import (
    averaged_step,
    digest,
    loss_of,
    make_model,
    make_optimizer,
    values_of,
)
from support import same_bits
from support.pool import ranks

FIRST, STEPS = 3, 5  # the warm-up ends at step 5


def whole_run(steps: int):
    model = make_model()
    opt = make_optimizer(model)
    cases.train(model, opt, 0, steps)
    return digest(values_of(opt)), opt.steps_applied, opt.get_last_lr()


# DCP tells that it works without a process group, as it was asked to.
quiet = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")


def on(world: int, function, *arguments):
    """Run on ``world`` ranks, or in this process without any process group."""
    return ranks(world)(function, *arguments) if world > 1 else [function(*arguments)]


@quiet
@pytest.mark.parametrize(
    ("saver", "loader"),
    [
        ((2, "fsdp"), (4, "fsdp")),
        ((4, "fsdp"), (2, "fsdp")),
        ((4, "fsdp"), (2, "ddp")),
        ((2, "ddp"), (4, "fsdp")),
        ((2, "fsdp"), (1, "alone")),
        ((1, "alone"), (2, "fsdp")),
    ],
    ids=lambda each: f"{each[0]}_{each[1]}",
)
def test_another_world_size_goes_on(
    tmp_path: Path, saver: tuple[int, str], loader: tuple[int, str]
) -> None:
    saved = on(saver[0], cases.save, str(tmp_path), saver[1], FIRST, {})
    assert saved[0][0] == whole_run(FIRST)
    for loaded, ended, _ in on(loader[0], cases.resume, str(tmp_path), loader[1], FIRST, STEPS, {}):
        assert loaded == saved[0][0]
        assert ended == whole_run(FIRST + STEPS)


def test_flattened_state(tmp_path: Path) -> None:
    """The form for pipelines, whose stages have other parameters each."""
    options = {"flatten_optimizer_state_dict": True}
    ranks(4)(cases.save, str(tmp_path), "fsdp", FIRST, options)
    for _, ended, _ in ranks(2)(cases.resume, str(tmp_path), "fsdp", FIRST, STEPS, options):
        assert ended == whole_run(FIRST + STEPS)


def test_one_file_of_whole_tensors(tmp_path: Path) -> None:
    for undisturbed, loaded in ranks(2)(cases.full_state, str(tmp_path / "state.pt"), FIRST, STEPS):
        assert undisturbed == loaded == whole_run(FIRST + STEPS)


def test_whole_tensors_without_dcp(tmp_path: Path) -> None:
    for single, loaded in ranks(2)(cases.plain_load, str(tmp_path), FIRST, STEPS):
        assert single == loaded


@pytest.mark.parametrize("tensor_lr", [False, True], ids=["float_lr", "tensor_lr"])
def test_asking_for_the_state_changes_nothing(tensor_lr: bool) -> None:
    for before, after, kept in ranks(2)(cases.dry_run, tensor_lr):
        assert before[1] == after[1] + 2
        assert all(kept)


def test_torch_sgd_is_taken_over_at_an_explicit_step(tmp_path: Path) -> None:
    for whole, taken_over in ranks(2)(cases.from_torch, str(tmp_path), FIRST, STEPS):
        assert whole == taken_over


@pytest.mark.parametrize("view", [False, True], ids=["copies", "bucket_view"])
@pytest.mark.parametrize("amp", [False, True], ids=["float32", "scaler"])
def test_zero_redundancy(view: bool, amp: bool) -> None:
    """Each rank steps its own parameters; the count is everyone's."""
    steps = 8
    model = make_model()
    opt = make_optimizer(model)
    for step in range(steps):
        if not (amp and step in (0, 3)):
            averaged_step(model, opt, [loss_of(model, step, rank) for rank in (0, 1)])
    for values in ranks(2)(cases.zero, 2, steps, view, amp):
        for value, expected in zip(values, model.parameters(), strict=True):
            if view:  # matrix products round by the alignment of their operands
                torch.testing.assert_close(value, expected.detach(), rtol=1e-5, atol=1e-7)
            else:
                assert same_bits(value, expected)


def test_zero_redundancy_resumes() -> None:
    for undisturbed, resumed, counts in ranks(4)(cases.zero_resumed, FIRST, STEPS):
        assert all(map(same_bits, undisturbed, resumed))
        assert counts == [FIRST, FIRST + STEPS]
