"""Steps of the Triton backend in a row, in Triton's interpreter."""

import gc
import sys
import weakref

import pytest
import torch
from cases import BLOCK, Launches, Pair, bytes_of, draw, parameters, plan_of

import fused_warmup
from fused_warmup import _C, SGD
from fused_warmup._backend.triton import launcher as backend
from fused_warmup._backend.triton.tables import DeviceTables
from fused_warmup._groups.options import DEFAULTS
from fused_warmup.schedules import Kind, PastEnd, Schedule, Segment, cosine, linear_warmup, table


def test_a_late_parameters_first_step_is_its_own():
    pair = Pair(lambda: parameters((BLOCK + 3, 5)), lr=0.1, momentum=0.9, dampening=0.5)
    late = [pair.params(opt)[1] for opt in pair.both()]
    for p in late:
        p.grad = None
    pair.step(2)
    pair.step(1, found_inf=1.0)
    for p in late:
        p.grad = draw(5, torch.float32, 3)
    pair.step(1, found_inf=1.0)
    pair.step(2)
    assert [int(pair.ours.state[p]["first_step"]) for p in pair.params(pair.ours)] == [0, 2]


def test_a_schedule_of_the_momentum():
    """A step at which it is 0 leaves the buffer alone, and a first one is not the first yet."""

    def groups():
        own = [parameters((BLOCK + 3, 5)) for _ in range(3)]
        options = ({}, {"momentum_schedule": None}, {"dampening": 0.0, "schedule": cosine(9)})
        return [{"params": p, **option} for p, option in zip(own, options, strict=True)]

    momentum = table((0.0, 0.5, 1.0, 0.0, 0.25))
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "momentum_schedule": momentum}
    pair = Pair(groups, **options)
    pair.step(5)
    marks = [int(pair.ours.state[g["params"][0]]["first_step"]) for g in pair.ours.param_groups[:2]]
    assert marks == [1, 0]


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # NumPy's, which interprets
def test_without_momentum_its_schedule_does_nothing():
    """Not even one that overflows: 0 times infinity is no number, and there is no buffer."""
    overflows = Schedule((Segment(Kind.EXP, PastEnd.CONTINUE, p=800.0),))
    pair = Pair(lambda: parameters((BLOCK + 3, 5)), lr=0.1, momentum_schedule=overflows)
    pair.step(3)


def test_a_step_of_empty_tensors_is_a_step():
    opt = SGD(parameters((0, 0)), lr=0.1, momentum=0.9, schedule=linear_warmup(4), backend="triton")
    opt.step()
    opt.step()
    assert (opt.steps_applied, opt.get_last_lr()) == (2, [0.1 * 0.25])


def test_a_device_without_gradients_keeps_the_count():
    t, lr = torch.tensor(5), torch.zeros(1, dtype=torch.float64)
    group = {**DEFAULTS, "lr": 0.5, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0}
    plan = plan_of(params=[torch.ones(3)], momentum_buffers=[None], first_steps=[None], t=t, lr=lr)
    assert plan.prepare([group], [None], None, None, True)
    plan.launch(True)
    assert (plan.active, int(t), lr.tolist()) == ([], 6, [0.5])


def test_without_a_gradient_there_is_no_step():
    opt = SGD([torch.ones(3, requires_grad=True)], lr=0.1, backend="triton")
    opt.step()
    assert opt.steps_applied == 0


def test_tables_follow_what_changes_between_steps():
    pair = Pair(lambda: parameters((5, BLOCK + 1, 30)), lr=0.1, momentum=0.9)
    pair.step()
    for opt in pair.both():  # gradients elsewhere
        for i, p in enumerate(pair.params(opt)):
            p.grad = draw(p.numel(), torch.float32, 30 + i)
    pair.step()
    for opt in pair.both():  # options
        opt.param_groups[0].update(lr=0.3, weight_decay=0.1, nesterov=True, maximize=True)
    pair.step()
    for opt in pair.both():  # one parameter without a gradient
        pair.params(opt)[1].grad = None
    pair.step()
    for opt in pair.both():  # the gradient of another dtype
        p = pair.params(opt)[1]
        p.grad_dtype = torch.bfloat16
        p.grad = draw(p.numel(), torch.bfloat16, 40)
    pair.step()
    for opt in pair.both():  # a parameter's memory
        p = pair.params(opt)[0]
        p.data = p.data.clone()
    pair.step()
    for opt in pair.both():  # the momentum's memory
        buffer = opt.state[pair.params(opt)[2]]["momentum_buffer"]
        buffer.data = buffer.data.clone()
    pair.step()
    for opt in pair.both():  # another group, another schedule
        opt.add_param_group({"params": parameters((9,)), "schedule": linear_warmup(50)})
    pair.step(2)


def test_a_bad_option_raises_before_anything_moves():
    opt = SGD(parameters((5,)), lr=0.1, backend="triton")
    opt.step()
    before = bytes_of(opt)
    for name, value in (("lr", float("nan")), ("weight_decay", -1.0), ("momentum", float("inf"))):
        good, opt.param_groups[0][name] = opt.param_groups[0][name], value
        with pytest.raises(ValueError, match=str(value)):
            opt.step()
        opt.param_groups[0][name] = good
    assert bytes_of(opt) == before


def test_a_sparse_gradient_raises():
    p = torch.ones(3, 2, requires_grad=True)
    opt = SGD([p], lr=0.1, backend="triton")
    p.grad = torch.zeros(3, 2).to_sparse()
    with pytest.raises(TypeError, match="sparse"):
        opt.step()
    assert opt.steps_applied == 0


def test_a_steady_step_is_one_launch_and_no_upload(monkeypatch):
    launches, uploads = Launches(monkeypatch), []
    fill = DeviceTables._fill

    def counted(self, table, staging, tables):
        uploads.append(staging.numel())
        fill(self, table, staging, tables)

    monkeypatch.setattr(DeviceTables, "_fill", counted)
    groups = [{"params": parameters((5, BLOCK + 1))}, {"params": parameters((7,)), "lr": 0.2}]
    opt = SGD(groups, lr=0.1, momentum=0.9, schedule=cosine(9), backend="triton")
    for step in range(4):
        opt.step()
        assert len(launches.recorded) == step + 1
        assert len(uploads) == 1
    opt.param_groups[0]["lr"] = 0.3
    opt.step()
    assert len(uploads) == 2
    p = opt.param_groups[0]["params"][0]
    p.grad = p.grad.clone()
    opt.step()
    assert len(uploads) == 3
    assert uploads[0] > uploads[1] == uploads[2]  # schedules and shares travel once
    assert opt.steps_applied == len(launches.recorded) == 6


def test_gradients_are_not_kept_alive():
    (p,) = parameters((5,))
    opt = SGD([p], lr=0.1, backend="triton")
    opt.step()
    grad = weakref.ref(p.grad)
    opt.zero_grad()
    gc.collect()
    assert grad() is None


def test_the_interpreter_serves_the_cpu_and_only_if_asked():
    found = fused_warmup.backends()["triton"]
    assert found.available
    assert "interpreter" in found.reason
    opt = SGD(parameters((3,)), lr=0.1)
    opt.step()
    assert not isinstance(opt._plan.parts[0], _C.TritonPlan)


@pytest.mark.parametrize(
    "move",
    [
        lambda mark: setattr(mark, "data", mark.data.clone()),
        lambda mark: mark.set_(mark.clone()),
        lambda mark: mark.share_memory_(),
        lambda mark: setattr(mark, "data", torch.stack([mark, mark])[1]),
    ],
    ids=["data", "set_", "share_memory_", "another's part"],
)
def test_a_mark_that_moved_is_found(move):
    pair = Pair(lambda: parameters((BLOCK + 3, 5)), lr=0.1, momentum=0.9, dampening=0.5)
    pair.step()
    for opt in pair.both():
        for p in pair.params(opt):
            move(opt.state[p]["first_step"])
            opt.state[p]["first_step"].fill_(-1)  # the next step is the first
    pair.step(2)
    assert [int(pair.ours.state[p]["first_step"]) for p in pair.params(pair.ours)] == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda t, lr, mark: setattr(t, "data", t.data.float()),
        lambda t, lr, mark: setattr(t, "data", torch._neg_view(t.data)),
        lambda t, lr, mark: t.resize_(0),
        lambda t, lr, mark: setattr(mark, "data", mark.data.int()),
        lambda t, lr, mark: mark.resize_(0),
        lambda t, lr, mark: setattr(lr, "data", lr.data.float()),
        lambda t, lr, mark: lr.resize_(0),
        lambda t, lr, mark: setattr(lr, "data", lr.data[:0]),
    ],
    ids=[
        *("count's dtype", "negated count", "no count", "mark's dtype", "no mark"),
        *("rates' dtype", "no rates", "rates elsewhere"),
    ],
)
def test_what_counts_steps_is_looked_at_before_each_step(change):
    t, lr = torch.tensor(5), torch.zeros(1, dtype=torch.float64)
    p, grad, buffer, mark = torch.ones(3), torch.ones(3), torch.zeros(3), torch.tensor(-1)
    group = {**DEFAULTS, "lr": 0.5, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.0}
    plan = plan_of(params=[p], momentum_buffers=[buffer], first_steps=[mark], t=t, lr=lr)
    assert plan.prepare([group], [grad], None, None, True)
    change(t, lr, mark)
    assert not plan.prepare([group], [grad], None, None, True)


def test_a_steady_step_takes_as_much_python_for_many_tensors_as_for_few(monkeypatch):
    monkeypatch.setattr(backend.kernel, "sgd_step", {(n,): lambda *_, **__: None for n in range(9)})

    def calls(n_tensors):
        opt = SGD(parameters((5,) * n_tensors), lr=0.1, momentum=0.9, backend="triton")
        for _ in range(3):
            opt.step()
        events = []
        sys.setprofile(lambda frame, event, arg: events.append(event))
        opt.step()
        sys.setprofile(None)
        return len(events)

    assert calls(161) == calls(3) < 80  # calls and returns, of Python and of C
