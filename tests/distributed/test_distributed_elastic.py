"""A change of workers in mid-training: position in epochs, linear scaling, the rest of the plan."""

from pathlib import Path

import pytest
import torch
from distributed import elastic_cases as cases
from support import copies, models, nothing_moves, same_bits, train
from support.pool import ranks

from fused_warmup import SGD, LargeMinibatch, Schedule, large_minibatch, linear_warmup
from fused_warmup.recipes import change_batch
from fused_warmup.schedules import (
    cosine_restarts,
    ema_power,
    ema_ramp,
    ema_threshold,
    step,
    table,
)

DATASET = 25_600


def recipe_for(batch: int) -> LargeMinibatch:
    return large_minibatch(batch, dataset_size=DATASET)


def optimizer_for(recipe: LargeMinibatch) -> SGD:
    return SGD(models((5, 3), (4,)), **recipe.sgd_options())


@pytest.mark.parametrize(("old", "new"), [(512, 1024), (1024, 512), (1024, 768), (512, 128)])
@pytest.mark.parametrize("epoch", [0, 2.5, 5, 29.99, 30, 60, 89])
def test_rates_are_those_of_the_new_recipe_at_the_same_epoch(
    old: int, new: int, epoch: float
) -> None:
    previous, recipe = recipe_for(old), recipe_for(new)
    opt = optimizer_for(previous)
    t = round(epoch * previous.steps_per_epoch)
    opt.steps_applied = t
    moved_to = change_batch(opt, previous, recipe)
    assert opt.steps_applied == moved_to
    exact = t * recipe.steps_per_epoch / previous.steps_per_epoch
    assert abs(moved_to - exact) <= 0.5
    train(opt, 1)
    assert opt.get_last_lr() == pytest.approx([recipe.lr * recipe.schedule(moved_to)], rel=1e-12)


def test_rate_in_mid_warm_up_by_the_rule() -> None:
    """K goes from 4 to 2 when e = 2.5 of W = 5 epochs are over."""
    previous, recipe = recipe_for(1024), recipe_for(512)
    opt = optimizer_for(previous)
    opt.steps_applied = 62  # of 25 an epoch: 2.48 epochs
    assert change_batch(opt, previous, recipe) == 124
    train(opt, 1)
    assert opt.get_last_lr() == pytest.approx([0.1 * (1 + (2 - 1) * 2.48 / 5)], rel=1e-12)


def test_there_and_back() -> None:
    previous, recipe = recipe_for(512), recipe_for(1024)
    opt = optimizer_for(previous)
    opt.steps_applied = 101
    change_batch(opt, previous, recipe)
    change_batch(opt, recipe, previous)
    assert abs(opt.steps_applied - 101) <= 1
    assert opt.param_groups[0]["lr"] == pytest.approx(previous.lr, rel=1e-15)
    assert opt.param_groups[0]["schedule"] == previous.schedule.to_dict()


def test_momentum_stays_and_groups_keep_their_multiples() -> None:
    previous, recipe = recipe_for(512), recipe_for(1024)
    a, b = models((5, 3), (4,))
    groups = [{"params": [a]}, {"params": [b], "lr": 10 * previous.lr, "schedule": None}]
    opt = SGD(groups, **previous.sgd_options())
    train(opt, 3)
    buffers = [opt.state[p]["momentum_buffer"] for p in (a, b)]
    before = copies([*buffers, a, b])
    change_batch(opt, previous, recipe)
    assert all(map(same_bits, before, [*buffers, a, b]))
    assert [g["lr"] for g in opt.param_groups] == pytest.approx([recipe.lr, 10 * recipe.lr])
    assert opt.param_groups[1]["schedule"] is None
    train(opt, 1)
    t = opt.steps_applied - 1
    assert opt.get_last_lr() == pytest.approx([recipe.lr * recipe.schedule(t), 10 * recipe.lr])


def test_a_tensor_lr_stays_a_tensor() -> None:
    previous, recipe = recipe_for(512), recipe_for(1024)
    opt = optimizer_for(previous)
    opt.param_groups[0]["lr"] = torch.tensor(previous.lr)
    change_batch(opt, previous, recipe)
    torch.testing.assert_close(opt.param_groups[0]["lr"], torch.tensor(recipe.lr))


def test_built_by_the_new_recipe_or_by_the_old() -> None:
    """A load leaves the schedule that the script gives; count and rate are the checkpoint's."""
    previous, recipe = recipe_for(512), recipe_for(1024)
    saver = optimizer_for(previous)
    train(saver, 4)
    for built_by in (previous, recipe):
        opt = optimizer_for(built_by)
        opt.load_state_dict(saver.state_dict(), schedules="code")
        assert change_batch(opt, previous, recipe) == 2
        train(opt, 1)
        assert opt.get_last_lr() == [pytest.approx(recipe.lr * recipe.schedule(2), rel=1e-12)]


@pytest.mark.parametrize(("old", "new"), [(512, 1024), (1024, 512), (1024, 768)])
@pytest.mark.parametrize("schedule", [None, ema_threshold(0.999), ema_ramp(300), ema_power(0.999)])
def test_averages_keep_their_reach_in_epochs(old: int, new: int, schedule: Schedule | None) -> None:
    previous, recipe = recipe_for(old), recipe_for(new)
    averaging = {"ema_decay": 0.999, "ema_schedule": schedule, "ema_start": 120, "ema_every": 2}
    opt = SGD(models((3,)), **previous.sgd_options(), **averaging)
    opt.steps_applied = 200
    change_batch(opt, previous, recipe)
    (group,) = opt.param_groups
    k = previous.steps_per_epoch / recipe.steps_per_epoch
    assert group["ema_decay"] == pytest.approx(0.999**k, rel=1e-15)
    assert (group["ema_start"], group["ema_every"]) == (round(120 / k), 2)
    if schedule is not None:
        now = Schedule.from_dict(group["ema_schedule"])
        for epoch in (0, 1, 4, 100, 3000):
            expected = schedule(epoch * previous.steps_per_epoch)
            assert now(epoch * recipe.steps_per_epoch) == pytest.approx(expected, rel=1e-12)
    train(opt, 1)


@pytest.mark.parametrize("schedule", [table([0.5, 1.0]), step(30), cosine_restarts(20)])
def test_averages_by_whole_steps_are_refused(schedule: Schedule) -> None:
    previous, recipe = recipe_for(512), recipe_for(1024)
    opt = SGD(models((3,)), **previous.sgd_options(), ema_decay=0.9, ema_schedule=schedule)
    with nothing_moves(opt), pytest.raises(ValueError, match=r"whole steps.*build the schedule"):
        change_batch(opt, previous, recipe)


def test_another_schedule_is_refused() -> None:
    previous, recipe = recipe_for(512), recipe_for(1024)
    opt = SGD(models((3,)), lr=0.1, schedule=linear_warmup(7))
    with nothing_moves(opt), pytest.raises(ValueError, match=r"group 0 .* steps_applied yourself"):
        change_batch(opt, previous, recipe)


def test_four_ranks_become_two(tmp_path: Path) -> None:
    """Each rank has batches of 6; the checkpoint goes through DCP."""
    ranks(4)(cases.before, str(tmp_path), 4, 5)
    expected = cases.in_one_process(5, 9)
    for count, values in ranks(2)(cases.after, str(tmp_path), 2, 9):
        assert count == 19  # five of 8 an epoch are ten of 16
        for value, wanted in zip(values, expected, strict=True):
            # Four gradients are added in an order that is gloo's own.
            torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-7)
