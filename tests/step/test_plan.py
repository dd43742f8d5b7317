"""What may change under a running optimizer, and must be noticed before the next launch."""

import copy
from typing import Any

import pytest
import torch
from support import models, parameter, randn, same_bits, set_grads, train
from torch import Tensor

from fused_warmup import SGD, linear_warmup
from fused_warmup.schedules import cosine

SHAPES = tuple((n,) for n in (5, 70, 3, 1, 64, 17, 9, 33))
BACKENDS = [None, "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)
OPTIONS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


class Pair:
    """Ours and torch.optim.SGD, trained alike; whatever is done to both must keep them equal."""

    def __init__(self, backend: str | None = None, shapes: Any = SHAPES, **options: Any) -> None:
        self.mine, self.theirs = models(*shapes), models(*shapes)
        options = {**OPTIONS, **options}
        self.ours = SGD(self.mine, backend=backend, **options)
        self.torchs = torch.optim.SGD(self.theirs, foreach=False, **options)
        self.done = 0
        self.step(2)

    @property
    def both(self) -> list[tuple[list[Tensor], torch.optim.Optimizer]]:
        return [(self.mine, self.ours), (self.theirs, self.torchs)]

    def step(self, times: int = 1, without: tuple[int, ...] = ()) -> None:
        for _ in range(times):
            for params, opt in self.both:
                set_grads(params, self.done)
                for i in without:
                    params[i].grad = None
                opt.step()
            self.done += 1
            assert all(map(same_bits, self.mine, self.theirs))


@every_backend
def test_parameters_whose_memory_is_swapped(backend) -> None:
    pair = Pair(backend)
    old = pair.mine[2].data
    for params, _ in pair.both:
        params[2].data = randn(3, seed=50)
    kept = old.clone()
    pair.step(2)
    assert same_bits(old, kept)


@every_backend
@pytest.mark.parametrize("swapped", [range(1), range(4, 5), range(8)], ids=str)
def test_momentum_whose_memory_is_swapped(backend, swapped) -> None:
    """Even of one parameter among many: the old memory may be somebody else's by now."""
    pair = Pair(backend)
    for params, opt in pair.both:
        for i in swapped:
            buffer = opt.state[params[i]]["momentum_buffer"]
            old, buffer.data = buffer.data, buffer.data * 0.5
            old.fill_(torch.nan)
    pair.step(2)


@every_backend
def test_momentum_that_is_replaced(backend) -> None:
    pair = Pair(backend)
    for params, opt in pair.both:
        opt.state[params[5]]["momentum_buffer"] = randn(17, seed=60)
    pair.step(2)


@every_backend
def test_whole_state_that_is_replaced(backend) -> None:
    pair = Pair(backend)
    for params, opt in pair.both:
        opt.state[params[1]] = {"momentum_buffer": randn(70, seed=61)}
    pair.step(2)
    assert pair.ours.steps_applied == 4
    pair.ours.state = copy.copy(pair.ours.state)
    pair.step(2)


def test_counter_that_is_replaced() -> None:
    """ZeRO moves it to the CPU, loaders make it anew: its value counts, our tensor stays."""
    p, q = models((3,), (4,))
    opt = SGD([p, q], lr=1.0, schedule=linear_warmup(20))
    train(opt, 3)
    ours = opt.state[p]["step"]
    for fresh in (torch.tensor(7), torch.tensor(9.0), 11):
        opt.state[p]["step"] = opt.state[q]["step"] = fresh
        train(opt, 1)
        assert opt.get_last_lr() == [pytest.approx(int(fresh) / 20)]
        assert opt.steps_applied == int(fresh) + 1
        assert opt.state[p]["step"] is opt.state[q]["step"] is ours
        assert isinstance(fresh, int) or fresh in (7, 9)
    opt.state[q]["step"] = torch.tensor(2)  # only one was replaced: it carries the truth
    assert opt.steps_applied == 2
    opt.state[p]["step"], opt.state[q]["step"] = torch.tensor(3), torch.tensor(4)
    with pytest.raises(ValueError, match=r"step counts \[3, 4\].*share one count"):
        opt.step()


@every_backend
def test_gradients_that_come_and_go(backend) -> None:
    pair = Pair(backend)
    for without in ((0,), (0, 3, 7), tuple(range(7)), (), (5,)):
        pair.step(without=without)
    pair.step(without=tuple(range(8)))  # none at all: not a step
    assert pair.ours.steps_applied == 7


@every_backend
def test_empty_tensors_among_others(backend) -> None:
    pair = Pair(backend, shapes=((0,), (3,), (2, 0, 4), (5,)), dampening=0.5)
    pair.step(2, without=(1, 3))
    pair.step(1)
    assert pair.ours.steps_applied == 5


@every_backend
def test_options_that_change(backend) -> None:
    pair = Pair(backend)
    changes = [
        {"lr": 0.5},
        {"lr": torch.tensor(0.25)},
        {"momentum": 0},
        {"momentum": 0.5, "dampening": 0.3},
        {"maximize": True, "weight_decay": 1},
        {"dampening": 0, "nesterov": True},
        {"weight_decay": torch.tensor(0.5), "maximize": 0, "nesterov": 1},
        {"lr": 1, "nesterov": False, "weight_decay": 0.0},
    ]
    for change in changes:
        for _, opt in pair.both:
            opt.param_groups[0].update(copy.deepcopy(change))
        pair.step(2)


@every_backend
def test_momentum_that_is_turned_on_late(backend) -> None:
    pair = Pair(backend, momentum=0.0)
    assert "momentum_buffer" not in pair.ours.state[pair.mine[0]]
    for _, opt in pair.both:
        opt.param_groups[0]["momentum"] = 0.9
        opt.param_groups[0]["dampening"] = 0.5
    pair.step(3)


@every_backend
def test_a_group_that_is_added(backend) -> None:
    pair = Pair(backend)
    count = pair.ours.state[pair.mine[0]]["step"]
    for params, opt in pair.both:
        params += models((6,), (2, 2))
        opt.add_param_group({"params": params[-2:], "lr": 0.3, "momentum": 0.5})
    pair.step(3)
    assert pair.ours.state[pair.mine[-1]]["step"] is count
    assert (int(count), pair.ours.get_last_lr()) == (5, [0.1, 0.3])


@every_backend
def test_groups_that_are_edited(backend) -> None:
    """Parameters appended to a group's list, taken away, and a group dropped, as people do."""
    pair = Pair(backend)
    for params, opt in pair.both:
        params += models((6,))
        opt.param_groups[0]["params"].append(params[-1])
    pair.step(2)
    for params, opt in pair.both:
        removed = opt.param_groups[0]["params"].pop(0)
        assert removed is params[0]
    pair.step(2)
    for params, opt in pair.both:
        group = {**opt.param_groups[0], "params": params[:1], "lr": 0.7}
        opt.param_groups.append(group)
    pair.step(2)
    for _, opt in pair.both:
        del opt.param_groups[0]
    pair.step(2)
    assert pair.ours.steps_applied == 10
    assert pair.ours.get_last_lr() == [0.7]


def test_schedule_that_is_replaced() -> None:
    p = models((3,))[0]
    opt = SGD([p], lr=1.0, schedule=linear_warmup(4))
    train(opt, 2)
    for schedule in (cosine(9), cosine(9).to_dict(), None):
        opt.param_groups[0]["schedule"] = schedule
        train(opt, 1)
        t = opt.steps_applied - 1
        assert opt.get_last_lr() == [1.0 if schedule is None else cosine(9)(t)]
        kept = opt.param_groups[0]["schedule"]
        assert kept is None if schedule is None else kept == cosine(9).to_dict()


@every_backend
def test_layers_that_freeze_and_thaw(backend) -> None:
    pair = Pair(backend)
    for params, opt in pair.both:
        params += models((6,), (7,))
        params[-1].requires_grad_(False)
        params[-2].requires_grad_(False)
        opt.add_param_group({"params": params[-2:], "dampening": 0.5})
    pair.step(2, without=(8, 9))
    assert pair.mine[-1] not in pair.ours.state
    for params, _ in pair.both:
        params[0].requires_grad_(False)
        params[-1].requires_grad_(True)
    pair.step(3, without=(0, 8))
    for params, _ in pair.both:
        params[0].requires_grad_(True)
        params[-2].requires_grad_(True)
    pair.step(2)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_everything_frozen_at_first(momentum) -> None:
    p = parameter(torch.zeros(3)).requires_grad_(False)
    opt = SGD([p], lr=1.0, momentum=momentum, schedule=linear_warmup(8))
    opt.step()
    opt.steps_applied = 4
    assert (opt.steps_applied, opt.get_last_lr()) == (4, [3 / 8])
    p.requires_grad_()
    p.grad = torch.ones(3)
    opt.step()
    assert p.tolist() == [-0.5] * 3
    assert int(opt.state_dict()["state"][0]["step"]) == 5


def test_watch_sees_what_it_should() -> None:
    from fused_warmup import _C

    key, other, step = torch.zeros(1), torch.zeros(1), torch.tensor(3)
    state: dict[Any, Any] = {key: {"step": step, "momentum_buffer": torch.zeros(2)}, "odd": 5}
    groups: list[dict[str, Any]] = [{"params": [key], "schedule": None, "lr": 0.1}]
    watch = _C.Watch(state, groups)
    assert watch.unchanged(state, groups)
    groups[0]["lr"] = 0.5
    state[key]["step"].add_(1)
    state[key]["note"] = "no part of a step"
    assert watch.unchanged(state, groups)
    assert watch.unchanged(dict(state), list(groups))

    def noticed(change: Any, undo: Any) -> None:
        assert watch.unchanged(state, groups)
        change()
        assert not watch.unchanged(state, groups)
        undo()

    noticed(lambda: state[key].update(step=torch.tensor(3)), lambda: state[key].update(step=step))
    noticed(lambda: state[key].update(first_step=step), lambda: state[key].pop("first_step"))
    noticed(lambda: state.update({other: {}}), lambda: state.pop(other))
    noticed(lambda: groups[0].update(schedule={}), lambda: groups[0].update(schedule=None))
    noticed(lambda: groups[0]["params"].append(other), groups[0]["params"].pop)
    noticed(lambda: groups.append({**groups[0]}), groups.pop)
    buffer = state[key].pop("momentum_buffer")
    assert not watch.unchanged(state, groups)
    state[key]["momentum_buffer"] = buffer
    assert watch.unchanged(state, groups)
