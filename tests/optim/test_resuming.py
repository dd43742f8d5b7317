"""What a checkpoint's groups mean: whose schedule holds, and of which rate it is a factor."""

import copy
import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from support import models, refused, set_grads, train
from test_state_dict import params_of, through_file
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.lr_scheduler import (
    ExponentialLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from fused_warmup import SGD, Schedule, get_schedule, linear_warmup
from fused_warmup.schedules import constant, cosine, exponential, linear, one_cycle, step, table

half = exponential(0.5, 1)
quiet = pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable:UserWarning")


def sgd(cls: type = SGD, lr: Any = 1.0, **options: Any) -> Any:
    return cls(models((5, 3), (7,)), lr=lr, momentum=0.9, **options)


def rates(opt: SGD, steps: int) -> list[float]:
    """The rates of the next steps."""
    found = []
    for i in range(steps):
        set_grads(params_of(opt), i)
        opt.step()
        found.append(opt.get_last_lr()[0])
    return found


def torchs(make: Callable[[Any], Any] | None, steps: int, lr: Any = 1.0) -> torch.optim.SGD:
    """A torch.optim.SGD that a scheduler drove for some steps."""
    opt = sgd(torch.optim.SGD, lr=lr)
    scheduler = make(opt) if make else None
    train(opt, steps, after=lambda _: scheduler.step() if scheduler else None)
    return opt


# -- the base of a torch.optim.SGD checkpoint --------------------------------------------------

HALVES = {
    "LambdaLR": (lambda o: LambdaLR(o, lambda t: 0.5**t), half),
    "ExponentialLR": (lambda o: ExponentialLR(o, 0.5), half),
    "StepLR": (lambda o: StepLR(o, 1, 0.5), step(1, 0.5)),
    "LinearLR": (lambda o: LinearLR(o, 1.0, 0.0, 4), linear(4)),
}


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("lr", [1.0, 1, 0.3])
def test_the_base_is_what_the_scheduler_began_with(name: str, lr: float) -> None:
    make, schedule = HALVES[name]
    theirs = torchs(make, 2, lr)
    ours = sgd(lr=7.0, schedule=schedule)
    ours.load_state_dict(through_file(theirs.state_dict()))
    ours.steps_applied = 2
    assert ours.param_groups[0]["lr"] == lr
    assert "initial_lr" not in ours.param_groups[0]
    assert rates(ours, 2) == [lr * schedule(2), lr * schedule(3)]


def test_a_rate_that_had_come_to_0_trains_again() -> None:
    theirs = torchs(lambda o: LinearLR(o, 1.0, 0.0, 4), 4)
    assert theirs.param_groups[0]["lr"] == 0.0
    ours = sgd(schedule=linear(8))
    ours.load_state_dict(theirs.state_dict())
    ours.steps_applied = 4
    assert rates(ours, 1) == [0.5]


def test_groups_have_bases_of_their_own() -> None:
    def two(cls: type, **options: Any) -> Any:
        first, second = models((5, 3), (7,))
        return cls([{"params": [first]}, {"params": [second], "lr": 0.25}], lr=1.0, **options)

    theirs = two(torch.optim.SGD)
    scheduler = ExponentialLR(theirs, 0.5)
    train(theirs, 2, after=lambda _: scheduler.step())
    ours = two(SGD, schedule=half)
    ours.load_state_dict(theirs.state_dict())
    ours.steps_applied = 2
    train(ours, 1)
    assert ours.get_last_lr() == [0.25, 0.0625]


@pytest.mark.parametrize("mine", [1.0, torch.tensor(1.0)], ids=["float", "tensor"])
def test_a_tensor_rate(mine: Any) -> None:
    theirs = torchs(HALVES["LambdaLR"][0], 2, torch.tensor(0.5))
    ours = sgd(lr=mine, schedule=half)
    ours.load_state_dict(through_file(theirs.state_dict()))
    ours.steps_applied = 2
    assert rates(ours, 1) == [0.125]
    if isinstance(mine, Tensor):
        assert ours.param_groups[0]["lr"] is mine


@pytest.mark.parametrize("steps", [0, 3])
def test_without_a_schedule_a_load_is_torchs(steps: int) -> None:
    """The scheduler stays, on top of this optimizer, and goes on from its own rate."""
    theirs = torchs(lambda o: ExponentialLR(o, 0.5), steps)
    ours = sgd()
    scheduler = ExponentialLR(ours, 0.5)
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["lr"] == 0.5**steps
    assert ours.param_groups[0]["initial_lr"] == 1.0
    assert rates(ours, 1) == [0.5**steps]
    scheduler.step()
    assert rates(ours, 1) == [0.5 ** (steps + 1)]
    later = sgd()
    later.load_state_dict(theirs.state_dict())
    StepLR(later, 3, last_epoch=steps)  # needs the initial_lr


def test_a_scheduler_on_top_of_a_schedule_keeps_its_rate() -> None:
    """Ours is a factor on what the scheduler makes of the rate, checkpoint or not."""
    theirs = torchs(lambda o: ExponentialLR(o, 0.5), 2)
    for schedule in (constant(0.1), half):
        ours = sgd(schedule=schedule)
        ExponentialLR(ours, 0.5)
        ours.load_state_dict(theirs.state_dict())
        assert ours.param_groups[0]["lr"] == 0.25


def test_ones_own_rate_is_the_base_already() -> None:
    """Whoever changed it changed the base."""
    opt = sgd(schedule=half)
    opt.param_groups[0]["lr"] = 0.125
    plateau = ReduceLROnPlateau(opt, patience=0, factor=0.5)
    plateau.step(1.0)
    plateau.step(1.0)
    for state_dict in (opt.state_dict(), through_file(opt.state_dict())):
        for other in (opt, sgd(schedule=half)):
            other.load_state_dict(state_dict)
            assert other.param_groups[0]["lr"] == 0.0625


@pytest.mark.parametrize("copied", [copy.deepcopy, through_file, lambda each: each])
@pytest.mark.parametrize("lr", [1.0, torch.tensor(1.0)], ids=["float", "tensor"])
def test_a_rate_changed_in_a_state_dict_is_taken(copied: Callable[[Any], Any], lr: Any) -> None:
    opt = sgd(lr=lr, schedule=half)
    state_dict = copied(opt.state_dict())
    state_dict["param_groups"][0]["lr"] = 0.25
    opt.load_state_dict(state_dict)
    assert opt.param_groups[0]["lr"] == 0.25


@pytest.mark.filterwarnings("ignore:group 0 has lr=")  # test_two_rates.py
def test_a_scheduler_on_top_goes_through_a_file() -> None:
    """Of our own checkpoint the rate is taken as it is, be the scheduler there yet or not."""
    opt = sgd(schedule=constant(0.1))
    scheduler = ExponentialLR(opt, 0.5)
    train(opt, 2, after=lambda _: scheduler.step())
    saved = through_file(opt.state_dict())
    early, late = sgd(schedule=constant(0.1)), sgd(schedule=constant(0.1))
    ExponentialLR(early, 0.5)
    for other in (early, late):
        other.load_state_dict(saved)
        assert other.param_groups[0]["lr"] == 0.25
        assert other.param_groups[0]["initial_lr"] == 1.0
    again = StepLR(late, 5, last_epoch=2)  # needs that
    assert again.base_lrs == [1.0]


@pytest.mark.parametrize(("lr", "base"), [(0.5, 0.5), (0.02, 0.02), (3.0, 0.02)])
def test_one_cycle_has_two_rates_to_be_a_factor_of(lr: float, base: float) -> None:
    """Ours is one of the highest; torch's starts from a 25th of it, and from_torch's factors do."""
    theirs = torchs(lambda o: OneCycleLR(o, 0.5, 30, cycle_momentum=False), 3)
    ours = sgd(lr=lr, schedule=one_cycle(30))
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["lr"] == base


@quiet
@pytest.mark.parametrize(
    ("kind", "lr"),
    [
        *itertools.product(["memory", "file", "whole"], [1.0, 1, 0.5]),
        *itertools.product(["memory", "file"], [torch.tensor(1.0)]),
    ],
    ids=str,
)
def test_through_torch_distributed_checkpoint(kind: str, lr: Any, tmp_path: Path) -> None:
    """Also where the base is the rate that the code gives."""
    net = torch.nn.Linear(3, 2)
    theirs = torch.optim.SGD(net.parameters(), lr=copy.copy(lr) * 1, momentum=0.9)
    scheduler = LambdaLR(theirs, lambda t: 0.5**t)
    train(theirs, 2, after=lambda _: scheduler.step())
    theirs.zero_grad()

    again = torch.nn.Linear(3, 2)
    mine = lr.clone() if isinstance(lr, Tensor) else 1.0
    ours = SGD(again.parameters(), lr=mine, momentum=0.9, schedule=half)
    choice = StateDictOptions(full_state_dict=kind == "whole")
    saved = get_optimizer_state_dict(net, theirs, options=choice)
    if kind == "file":
        dcp.save({"optim": saved}, checkpoint_id=tmp_path)
        saved = get_optimizer_state_dict(again, ours)
        partly = DefaultLoadPlanner(allow_partial_load=True)
        dcp.load({"optim": saved}, checkpoint_id=tmp_path, planner=partly)
    elif kind == "whole":
        saved = through_file(saved)
    set_optimizer_state_dict(again, ours, saved, options=choice)
    ours.steps_applied = 2
    for p, q in zip(net.parameters(), again.parameters(), strict=True):
        loaded = ours.state[q]["momentum_buffer"]
        assert torch.equal(loaded, theirs.state[p]["momentum_buffer"])
    set_grads(params_of(ours), 0)
    ours.step()
    assert ours.get_last_lr() == [0.25 * float(lr)]
    assert "initial_lr" not in ours.param_groups[0]


@quiet
def test_a_file_without_a_base(tmp_path: Path) -> None:
    """Nothing but the rate is known of a run without scheduler, whatever this optimizer's is."""
    net = torch.nn.Linear(3, 2)
    theirs = torch.optim.SGD(net.parameters(), lr=0.125, momentum=0.9)
    train(theirs, 1)
    theirs.zero_grad()
    dcp.save({"optim": get_optimizer_state_dict(net, theirs)}, checkpoint_id=tmp_path)
    ours = SGD(net.parameters(), lr=1.0, momentum=0.9, schedule=half)
    state = {"optim": get_optimizer_state_dict(net, ours)}
    get_optimizer_state_dict(net, ours)  # as trainers do between the two
    partly = DefaultLoadPlanner(allow_partial_load=True)
    dcp.load(state, checkpoint_id=tmp_path, planner=partly)
    set_optimizer_state_dict(net, ours, state["optim"])
    assert ours.param_groups[0]["lr"] == 0.125


@quiet
@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)], ids=["float", "tensor"])
def test_ones_own_file(lr: Any, tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    opt = SGD(net.parameters(), lr=lr, momentum=0.9, schedule=half)
    train(opt, 2)
    opt.zero_grad()
    dcp.save({"optim": get_optimizer_state_dict(net, opt)}, checkpoint_id=tmp_path)
    other = SGD(net.parameters(), lr=lr * 4, momentum=0.9, schedule=half)
    state = {"optim": get_optimizer_state_dict(net, other)}
    dcp.load(state, checkpoint_id=tmp_path)
    set_optimizer_state_dict(net, other, state["optim"])
    assert (other.steps_applied, float(other.param_groups[0]["lr"])) == (2, 0.5)


# -- whose schedule ----------------------------------------------------------------------------

SHORT, LONG = get_schedule("linear", 2, 6), get_schedule("linear", 2, 12)


def finished() -> dict[str, Any]:
    opt = sgd(schedule=SHORT)
    train(opt, 6)
    return through_file(opt.state_dict())


def test_the_schedule_given_in_code_stays() -> None:
    """As Hugging Face's own run goes on, whose scheduler's lambda is the script's."""
    opt = sgd(schedule=LONG)
    with pytest.warns(UserWarning, match="given in code") as caught:
        opt.load_state_dict(finished())
    assert len(caught) == 1
    text = str(caught[0].message)
    assert all(word in text for word in (str(SHORT), str(LONG), "group 0", "which stays"))
    assert all(word in text for word in ("schedules='checkpoint'", "group['schedule'] = None"))
    assert caught[0].filename == __file__
    assert rates(opt, 2) == pytest.approx([0.6, 0.5])


def test_that_of_the_checkpoint_may_be_chosen() -> None:
    opt = sgd(schedule=LONG)
    opt.load_state_dict(finished(), schedules="checkpoint")
    assert Schedule.from_dict(opt.param_groups[0]["schedule"]) == SHORT
    assert rates(opt, 1) == [0.0]
    opt = sgd(schedule=LONG)
    opt.param_groups[0]["schedule"] = None  # what a trainer's load takes, too
    opt.load_state_dict(finished())
    assert Schedule.from_dict(opt.param_groups[0]["schedule"]) == SHORT


def test_and_that_of_the_code_without_a_warning() -> None:
    opt = sgd(schedule=LONG)
    opt.load_state_dict(finished(), schedules="code")
    assert Schedule.from_dict(opt.param_groups[0]["schedule"]) == LONG
    opt = sgd()
    opt.load_state_dict(finished(), schedules="code")
    assert opt.param_groups[0]["schedule"] is None


@pytest.mark.parametrize("schedule", [LONG, cosine(9), table([1.0, 0.5, 0.25]), None])
def test_the_same_code_again_changes_nothing(schedule: Any) -> None:
    opt = sgd(schedule=schedule, momentum_schedule=schedule)
    train(opt, 3)
    other = sgd(schedule=schedule, momentum_schedule=schedule)
    mine = other.param_groups[0]["schedule"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.load_state_dict(through_file(opt.state_dict()))
    assert other.param_groups[0]["schedule"] is mine


def test_the_same_in_other_words_is_no_difference() -> None:
    opt = sgd(schedule=constant(0.5))
    train(opt, 1)
    saved = opt.state_dict()
    plain = opt.param_groups[0]["schedule"]
    segment = {"start": 0, **plain["segments"][0], "origin": 0}
    other = sgd(schedule={"steps": plain["steps"], "segments": [segment]})
    other.load_state_dict(saved)


@pytest.mark.parametrize("schedules", [None, "code", "checkpoint"])
def test_a_checkpoint_without_schedules(schedules: Any) -> None:
    """torch.optim.SGD's leaves the code's, ours of a run without one differs from it."""
    opt = sgd(schedule=LONG)
    opt.load_state_dict(torchs(None, 1).state_dict(), schedules=schedules)
    assert Schedule.from_dict(opt.param_groups[0]["schedule"]) == LONG
    none = sgd()
    train(none, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opt.load_state_dict(none.state_dict(), schedules=schedules)
    assert len(caught) == (schedules is None)
    assert (opt.param_groups[0]["schedule"] is None) == (schedules == "checkpoint")


def test_each_group_and_the_momentum() -> None:
    def make(first: Any, second: Any, momentum: Any) -> SGD:
        a, b = models((5, 3), (7,))
        groups = [{"params": [a], "schedule": first}, {"params": [b], "schedule": second}]
        return SGD(groups, lr=1.0, momentum=0.9, momentum_schedule=momentum)

    saver = make(SHORT, cosine(9), constant(0.5))
    train(saver, 1)
    opt = make(None, linear_warmup(3), constant(0.25))
    with pytest.warns(UserWarning, match=r"schedule of group 0 .*, and 2 more like it") as caught:
        opt.load_state_dict(saver.state_dict())
    assert len(caught) == 1
    found = [
        Schedule.from_dict(group[name])
        for group in opt.param_groups
        for name in ("schedule", "momentum_schedule")
    ]
    assert found == [SHORT, constant(0.25), linear_warmup(3), constant(0.25)]


@quiet
def test_whose_schedule_through_torch_distributed_checkpoint(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    opt = SGD(net.parameters(), lr=1.0, momentum=0.9, schedule=SHORT)
    train(opt, 6)
    opt.zero_grad()
    dcp.save({"optim": get_optimizer_state_dict(net, opt)}, checkpoint_id=tmp_path)
    for given, expected in ((LONG, LONG), (None, SHORT)):
        other = SGD(net.parameters(), lr=1.0, momentum=0.9, schedule=given)
        state = {"optim": get_optimizer_state_dict(net, other)}
        dcp.load(state, checkpoint_id=tmp_path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            set_optimizer_state_dict(net, other, state["optim"])
        assert len(caught) == (given is LONG)
        assert Schedule.from_dict(other.param_groups[0]["schedule"]) == expected
        assert other.steps_applied == 6


def test_another_word_for_whose() -> None:
    opt = sgd(schedule=LONG)
    with refused(opt, ValueError, "schedules='mine'", "'code', 'checkpoint' or None"):
        opt.load_state_dict(finished(), schedules="mine")  # type: ignore[arg-type]
