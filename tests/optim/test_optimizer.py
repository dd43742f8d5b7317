"""The contract of SGD beyond torch's: t, the rates, and groups."""

import contextlib
import copy
import io
import linecache
import operator
import sys
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import OPTIONS, models, parameter, randn, same_bits, set_grads, train
from support.strategies import BUILT
from torch.optim.lr_scheduler import LinearLR

from fused_warmup import SGD, Schedule, linear_warmup
from fused_warmup.schedules import constant, cosine, multi_step

BACKENDS = ["cpu", "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS)


@given(
    schedule=st.one_of(st.none(), BUILT),
    options=st.sampled_from(OPTIONS),
    lr=st.floats(0, 1),
    backend=st.sampled_from(BACKENDS),
)
def test_is_torch_sgd_at_the_rate_of_the_schedule(schedule, options, lr, backend) -> None:
    """The whole semantics in one property: group["lr"] * schedule(t), t = steps applied."""
    mine, theirs = models((5,), (3, 2)), models((5,), (3, 2))
    ours = SGD(mine, lr=lr, schedule=schedule, backend=backend, **options)
    torchs = torch.optim.SGD(theirs, lr=lr, foreach=False, **options)
    for t in range(5):
        torchs.param_groups[0]["lr"] = lr if schedule is None else lr * schedule(t)
        assert ours.steps_applied == t
        train(ours, 1, first=t)
        train(torchs, 1, first=t)
        assert ours.get_last_lr() == [torchs.param_groups[0]["lr"]]
        assert all(map(torch.equal, mine, theirs))


@every_backend
def test_one_count_for_all_groups_and_parameters(backend: str) -> None:
    params = models((3,), (4,), (0,), ())
    groups = [{"params": params[:2]}, {"params": params[2:], "momentum": 0.9, "dampening": 0.5}]
    opt = SGD(groups, lr=0.1, backend=backend)
    steps = [opt.state[p]["step"] for p in params]
    assert len({id(step) for step in steps}) == 1
    assert (steps[0].dtype, steps[0].shape, int(steps[0])) == (torch.int64, (), 0)
    for t in range(1, 4):
        set_grads(params, t)
        params[t].grad = None
        opt.step()
        assert int(steps[0]) == opt.steps_applied == t
    assert int(opt.state[params[3]]["first_step"]) == 0


@every_backend
def test_first_step_is_each_parameters_own(backend: str) -> None:
    """A parameter that gets its first gradient late is not dampened then, as with torch."""
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    mine, theirs = models((3,), (70,)), models((3,), (70,))
    ours = SGD(mine, backend=backend, schedule=constant(1.0), **options)
    torchs = torch.optim.SGD(theirs, foreach=False, **options)
    for step in range(5):
        for params, opt in ((mine, ours), (theirs, torchs)):
            set_grads(params, step)
            if step in (0, 1, 3):
                params[1].grad = None
            opt.step()
        assert all(map(same_bits, mine, theirs))
    assert [int(ours.state[p]["first_step"]) for p in mine] == [0, 2]


@every_backend
def test_dampening_that_comes_back(backend: str) -> None:
    """A first step without dampening is the first step all the same."""
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    mine, theirs = models((3,), (70,)), models((3,), (70,))
    ours = SGD(mine, backend=backend, **options)
    torchs = torch.optim.SGD(theirs, foreach=False, **options)
    for step, dampening in enumerate((0.0, 0.0, 0.5, 0.3)):
        for params, opt in ((mine, ours), (theirs, torchs)):
            set_grads(params, step)
            opt.param_groups[0]["dampening"] = dampening
            opt.step()
        assert all(map(same_bits, mine, theirs))
    assert [int(ours.state[p]["first_step"]) for p in mine] == [0, 0]


def test_rates_before_the_first_step_and_after() -> None:
    schedule = linear_warmup(4, start=0.5)
    groups = [{"params": models((3,))}, {"params": models((3,)), "lr": 0.2, "schedule": None}]
    opt = SGD(groups, lr=1.0, schedule=schedule)
    live = opt.lr_tensor()
    assert (live.dtype, live.shape, live.device.type) == (torch.float64, (2,), "cpu")
    assert opt.get_last_lr() == [0.5, 0.2]  # of the first step
    for t in range(3):
        train(opt, 1)
        assert opt.get_last_lr() == [schedule(t), 0.2]
        assert opt.lr_tensor() is live
        assert live.tolist() == opt.get_last_lr()
    opt.param_groups[0]["lr"] = 9.0
    assert opt.get_last_lr() == [schedule(2), 0.2]  # it is what was used, not what will be
    train(opt, 1)
    assert opt.get_last_lr() == [9.0 * schedule(3), 0.2]


def test_rates_of_an_added_group() -> None:
    opt = SGD(models((3,)), lr=1.0, schedule=linear_warmup(4))
    train(opt, 2)
    opt.add_param_group({"params": models((2,)), "lr": 0.5, "schedule": cosine(8)})
    assert opt.get_last_lr() == [0.25, 0.5 * cosine(8)(1)]
    train(opt, 1)
    assert opt.get_last_lr() == [0.5, 0.5 * cosine(8)(2)]


@every_backend
def test_the_count_can_be_set(backend: str) -> None:
    schedule = multi_step([10, 20], 0.1)
    opt = SGD(models((3,)), lr=1.0, schedule=schedule, backend=backend)
    counter = opt.state[opt.param_groups[0]["params"][0]]["step"]
    for start in (19, 0, 9, 2**40):
        opt.steps_applied = start
        assert opt.steps_applied == int(counter) == start
        assert opt.get_last_lr() == [schedule(max(start - 1, 0))]
        for t in (start, start + 1):
            train(opt, 1)
            assert opt.get_last_lr() == [schedule(t)]
        assert opt.steps_applied == start + 2


def test_schedules_are_taken_in_any_form_and_kept_as_plain_data() -> None:
    schedule = linear_warmup(3).then(cosine(5))
    for given_ in (schedule, schedule.to_dict()):
        opt = SGD(models((3,)), lr=1.0, schedule=given_)
        kept = opt.param_groups[0]["schedule"]
        assert kept == schedule.to_dict()
        stored = io.BytesIO()
        torch.save(kept, stored)
        stored.seek(0)
        assert torch.load(stored, weights_only=True) == schedule.to_dict()
        assert Schedule.from_dict(kept) == schedule
    assert SGD(models((3,))).param_groups[0]["schedule"] is None


def test_the_users_dicts_become_the_groups() -> None:
    """As with torch, so that a group may be changed through the dict that it was made from."""
    first = {"params": iter(models((3,), (2,))), "schedule": linear_warmup(3)}
    second = {"params": parameter(torch.zeros(2)), "lr": 0.5, "schedule": None}
    opt = SGD([first], lr=0.5)
    opt.add_param_group(second)
    assert all(map(operator.is_, opt.param_groups, (first, second)))
    assert (len(first["params"]), first["schedule"]) == (2, linear_warmup(3).to_dict())
    for lr in (0.25, 0.75):
        second["lr"] = lr
        p = second["params"][0]
        p.grad = torch.ones(2)
        before = p.detach().clone()
        opt.step()
        assert torch.equal(p, before - lr)


def test_a_dict_that_is_refused_is_left_alone() -> None:
    opt = SGD(models((3,)), lr=0.5)
    group = {"params": models((2,)), "schedule": "no schedule", "lr": 0.1}
    before = dict(group)
    with pytest.raises(ValueError, match="no schedule"):
        opt.add_param_group(group)
    assert group == before
    assert len(opt.param_groups) == 1


def test_a_tensor_lr_is_never_copied() -> None:
    """What the user holds stays the group's own, and is read at each step."""
    lr = torch.tensor(0.5, dtype=torch.float64)
    p = parameter(torch.zeros(2))
    opt = SGD([p], lr=lr)
    for value in (0.5, 0.25, 1.0):
        lr.fill_(value)
        p.grad = torch.ones(2)
        before = p.detach().clone()
        opt.step()
        assert torch.equal(p, before - value)
    assert opt.param_groups[0]["lr"] is lr
    assert copy.deepcopy(opt).param_groups[0]["lr"] is not lr


def test_lr_of_any_shape_with_one_element() -> None:
    for lr in (torch.tensor([0.5]), torch.tensor([[0.5]]), torch.tensor(0.5).half()):
        for backend in BACKENDS:
            p = parameter(torch.zeros(()))
            opt = SGD([p], lr=lr, backend=backend)
            p.grad = torch.ones(())
            opt.step()
            assert (p.item(), p.shape) == (-0.5, ())
            assert opt.get_last_lr() == [0.5]


def test_no_gradient_and_no_parameter_moves_no_count() -> None:
    opt = SGD(models((3,)), lr=0.1, schedule=linear_warmup(3))
    for _ in range(3):
        opt.step()
    assert opt.steps_applied == 0
    set_grads(opt.param_groups[0]["params"], 0)
    opt.step()
    opt.zero_grad()
    opt.step()
    assert opt.steps_applied == 1


def test_gradients_may_require_gradients() -> None:
    p = parameter(torch.ones(3))
    opt = SGD([p], lr=0.1)
    for _ in range(2):
        (p.grad,) = torch.autograd.grad((p**3).sum(), p, create_graph=True)
        opt.step()
        assert p.grad_fn is None
        assert p.is_leaf


def test_many_parameters() -> None:
    """So many that the plan takes its other way to memory, and lists outgrow a page."""
    mine = [parameter(randn(1 + i % 7, seed=i)) for i in range(1500)]
    theirs = [parameter(p.detach().clone()) for p in mine]
    options = {"lr": 0.1, "momentum": 0.9}
    ours, torchs = SGD(mine, **options), torch.optim.SGD(theirs, foreach=False, **options)
    for step in range(4):
        for params, opt in ((mine, ours), (theirs, torchs)):
            for i, p in enumerate(params):
                p.grad = None if (i + step) % 5 == 0 else randn(*p.shape, seed=i + step)
            params[step].data = params[step].data * 0.5
            opt.step()
        assert all(map(same_bits, mine, theirs))


def test_repr_names_the_schedule() -> None:
    shown = repr(SGD(models((3,)), lr=0.5, schedule=linear_warmup(4)))
    assert shown.startswith("SGD (\nParameter Group 0\n")
    assert "lr: 0.5" in shown
    assert "schedule: linear_warmup(4)\n" in shown


class Halved(dict):
    """A group whose rate is worked out as it is asked for."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return value / 2 if key == "lr" else value


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_a_group_that_answers_for_itself(backend: str) -> None:
    params = models((3,))
    opt = SGD([Halved(params=params)], lr=1.0, backend=backend)
    for step in range(3):
        before = params[0].detach().clone()
        params[0].grad = torch.ones(3)
        opt.step()
        assert torch.equal(params[0], before - 0.5), step


@pytest.mark.parametrize("kind", [OrderedDict, type("Plain", (dict,), {})])
def test_dicts_of_other_classes_take_the_fast_path(kind: type, monkeypatch: Any) -> None:
    params = models((3,))
    opt = SGD([kind(params=params)], lr=1.0)
    for step in range(3):
        params[0].grad = torch.ones(3)
        opt.step()
        if step == 0:
            assert type(opt.param_groups[0]) is kind
            monkeypatch.setattr(opt, "_step_after_a_change", lambda *_: pytest.fail("slow"))
    assert opt.steps_applied == 3


class Fives(torch.nn.Parameter):
    def __getattribute__(self, name: str) -> Any:
        return torch.full((3,), 5.0) if name == "grad" else super().__getattribute__(name)


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_a_gradient_of_a_class_that_answers_for_itself(backend: str) -> None:
    p = Fives(torch.zeros(3))
    torch.Tensor.grad.__set__(p, torch.ones(3))
    opt = SGD([p], lr=1.0, backend=backend)
    for _ in range(3):
        opt.step()
    assert p.tolist() == [-15.0] * 3


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_a_torch_scheduler_that_ends_a_rounding_below_0(backend: str, as_tensor: bool) -> None:
    """LinearLR to 0 comes to -1.85e-18 after 4 steps; torch steps on, and so does a load."""

    def run(opt_class: Any, **options: Any) -> tuple[Any, Any, list[float]]:
        params = models((3,))
        lr = torch.tensor(0.1, dtype=torch.float64) if as_tensor else 0.1
        opt = opt_class(params, lr=lr, momentum=0.9, **options)
        scheduler = LinearLR(opt, 1 / 3, 0.0, 4)
        rates = []
        for step in range(7):
            rates.append(float(opt.param_groups[0]["lr"]))
            set_grads(params, step)
            opt.step()
            scheduler.step()
            if step == 4:
                opt.load_state_dict(copy.deepcopy(opt.state_dict()))
        return params[0], opt, rates

    ours, opt, rates = run(SGD, backend=backend)
    theirs, _, expected = run(torch.optim.SGD, foreach=False)
    assert rates == expected
    assert as_tensor or rates[-1] < 0
    assert same_bits(ours, theirs)
    assert opt.get_last_lr() == [rates[-1]]


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_a_debugger_that_ends_a_step_with_an_exception(backend: str) -> None:
    """At any line of a step but the one that tidies up."""

    class Quit(BaseException):
        pass

    params = models((3,))
    opt = SGD(params, lr=0.1, backend=backend)
    hooked = []
    opt.register_step_post_hook(lambda *_: hooked.append(opt.steps_applied))
    set_grads(params, 0)
    opt.step()
    for line in range(0, 400, 7):
        left = [line]

        def trace(frame: Any, event: str, arg: Any, left: list[int] = left) -> Any:
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            ours = "fused_warmup" in frame.f_globals.get("__name__", "")
            if ours and event == "line" and "= False" not in text:
                left[0] -= 1
                if left[0] == -1:
                    raise Quit
            return trace

        sys.settrace(trace)
        with contextlib.suppress(Quit):
            opt.step()
        sys.settrace(None)
        hooked.clear()
        opt.step()
        assert hooked == [opt.steps_applied], line
