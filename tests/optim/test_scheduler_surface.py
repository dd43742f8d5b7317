"""opt.scheduler() has what torch's schedulers have, and goes where they go."""

import copy
import io

import pytest
import torch
from support import models
from test_scheduler_face import SCHEDULE, advance, optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)


def torchs() -> list[LRScheduler]:
    opt = torch.optim.SGD(models((2,)), lr=0.5)
    return [StepLR(opt, 3), ExponentialLR(opt, 0.5), LinearLR(opt), CosineAnnealingLR(opt, 9)]


def test_has_what_all_of_torchs_schedulers_have() -> None:
    scheduler = optimizer().scheduler()
    copied = {"__slotnames__"}  # where copyreg notes what it found of a class
    for name in set.intersection(*(set(dir(each)) for each in torchs())) - copied:
        assert hasattr(scheduler, name), name
    assert {"_last_lr", "last_epoch", "base_lrs", "_step_count"} <= scheduler.state_dict().keys()


def test_every_way_to_read_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    for t in range(4):
        rates = [0.5 * SCHEDULE(t), 0.1]
        assert scheduler._last_lr == rates
        assert scheduler.get_lr() == rates
        assert scheduler._get_closed_form_lr() == rates
        assert scheduler.state_dict()["_last_lr"] == rates
        assert [group["lr"] for group in scheduler.optimizer.param_groups] == rates
        assert [group["initial_lr"] for group in scheduler.optimizer.param_groups] == [0.5, 0.1]
        advance(opt, t)
        assert scheduler._last_lr == rates
        assert scheduler._get_closed_form_lr() == [0.5 * SCHEDULE(t + 1), 0.1]  # of last_epoch
        scheduler.step()
    scheduler.print_lr(False, 0, 0.25)
    scheduler.print_lr(True, 0, 0.25)
    scheduler.print_lr(True, 1, 0.25, 3)
    assert capsys.readouterr().out == (
        "adjusting learning rate of group 0 to 2.5000e-01.\n"
        "Epoch 3: adjusting learning rate of group 1 to 2.5000e-01.\n"
    )


@pytest.mark.parametrize("epoch", [0, 3, 100, 0.5])
def test_an_epoch_moves_nothing(epoch: float) -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    for t in range(3):
        advance(opt, t)
        scheduler.step(epoch)
    assert (opt.steps_applied, scheduler.last_epoch) == (3, 3)
    assert scheduler.get_last_lr() == [0.5 * SCHEDULE(3), 0.1]
    assert scheduler._step_count == 4


def test_setting_the_last_epoch_warns_and_changes_nothing() -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    advance(opt, 0)
    scheduler.step()
    scheduler.last_epoch = 1
    scheduler.last_epoch -= 1  # as SequentialLR does
    for value in (-1, 7):
        with pytest.warns(UserWarning, match=rf"last_epoch={value} .* at step 1, .*steps_applied"):
            scheduler.last_epoch = value
    scheduler._last_lr = [9.0, 9.0]
    assert scheduler.last_epoch == opt.steps_applied == 1
    assert scheduler.get_last_lr() == [0.5 * SCHEDULE(1), 0.1]


def test_setting_the_base_rates_sets_the_base() -> None:
    opt = optimizer()
    opt.param_groups[1]["lr"] = rate = torch.tensor(0.1)
    scheduler = opt.scheduler()
    scheduler.base_lrs = [1.0, 0.2]
    assert opt.param_groups[0]["lr"] == 1.0
    assert opt.param_groups[1]["lr"] is rate
    assert scheduler.base_lrs == [1.0, pytest.approx(0.2)]
    assert scheduler.get_last_lr() == [SCHEDULE(0), pytest.approx(0.2)]
    for wrong in ([1.0], [1.0, 0.2, 0.3], [1.0, "0.2"], [None, 0.2], [True, 0.2]):
        with pytest.raises(ValueError, match="give each one a number"):
            scheduler.base_lrs = wrong  # type: ignore[assignment]
    assert scheduler.base_lrs == [1.0, pytest.approx(0.2)]


def test_setting_the_optimizer_tells_of_another() -> None:
    opt, other = optimizer(), optimizer()
    scheduler = opt.scheduler()
    other.steps_applied = 5
    for same in (opt, scheduler.optimizer):
        scheduler.optimizer = same
        assert scheduler.last_epoch == 0
    for new in (other, other.scheduler().optimizer):
        scheduler.optimizer = new
        assert scheduler.optimizer == other
        assert scheduler.get_last_lr() == [0.5 * SCHEDULE(5), 0.1]
    with pytest.raises(TypeError, match="SGD, which has no schedule to tell the rate of"):
        scheduler.optimizer = torch.optim.SGD(models((2,)), lr=0.5)
    assert scheduler.optimizer == other


def test_in_sequential_lr_the_others_multiply_the_base() -> None:
    opt = optimizer()
    face = opt.scheduler()
    sequence = SequentialLR(opt, [face, ExponentialLR(opt, 0.5)], [3])
    for t in range(6):
        base = 0.5 * 0.5 ** max(t - 3, 0)
        assert opt.param_groups[0]["lr"] == base
        # The last one in charge tells what it set.
        assert sequence.get_last_lr()[0] == (base * SCHEDULE(t) if t < 3 else base)
        advance(opt, t)
        assert opt.get_last_lr()[0] == base * SCHEDULE(t)
        sequence.step()
    saved = copy.deepcopy(sequence.state_dict())
    sequence.load_state_dict(saved)
    assert sequence.get_last_lr()[0] == 0.5 * 0.5**3


@pytest.mark.parametrize("milestones", [[2], [0]])
def test_in_sequential_lr_behind_a_warm_up(milestones: list[int]) -> None:
    opt = optimizer()
    warmup = LinearLR(opt, 0.5, total_iters=2)
    sequence = SequentialLR(opt, [warmup, opt.scheduler()], milestones)
    bases = []
    for t in range(4):
        bases.append(opt.param_groups[0]["lr"])
        advance(opt, t)
        sequence.step()
    # The face leaves the base as the warm-up has left it.
    assert bases == ([0.25, 0.375, 0.375, 0.375] if milestones == [2] else bases[:1] * 4)
    assert sequence.get_last_lr()[0] == bases[-1] * SCHEDULE(4)


@pytest.mark.parametrize("first", [True, False])
def test_in_a_chained_scheduler_the_others_multiply_the_base(first: bool) -> None:
    opt = optimizer()
    both = [opt.scheduler(), ExponentialLR(opt, 0.5)]
    chain = ChainedScheduler(both if first else both[::-1])
    for t in range(3):
        assert opt.param_groups[0]["lr"] == 0.5 * 0.5**t
        advance(opt, t)
        assert opt.get_last_lr()[0] == 0.5 * 0.5**t * SCHEDULE(t)
        chain.step()
    assert chain.get_last_lr()[0] == 0.5 * 0.5**3 * (1.0 if first else SCHEDULE(3))
    chain.load_state_dict(copy.deepcopy(chain.state_dict()))


def test_beside_reduce_lr_on_plateau() -> None:
    opt = optimizer()
    scheduler, plateau = opt.scheduler(), ReduceLROnPlateau(opt, factor=0.5, patience=0)
    for t in range(3):
        advance(opt, t)
        scheduler.step()
        plateau.step(1.0)
    assert scheduler.get_last_lr() == [0.125 * SCHEDULE(3), 0.1 * 0.25]


def test_a_state_loads_without_pickle_and_into_torchs() -> None:
    opt = optimizer()
    scheduler = opt.scheduler()
    for t in range(3):
        advance(opt, t)
        scheduler.step()
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    theirs = ExponentialLR(torch.optim.SGD(models((2,), (3,)), lr=0.5), 0.5)
    theirs.load_state_dict(state)
    assert (theirs.last_epoch, theirs.get_last_lr()) == (3, [0.5 * SCHEDULE(3), 0.1])
    scheduler.load_state_dict(theirs.state_dict())
    scheduler.load_state_dict({})
    assert scheduler.last_epoch == 3
