"""What graph captures make of the Triton backend's tables, in Triton's interpreter."""

import gc
import weakref

import pytest
import torch
from cases import BLOCK, Launches, draw, parameters
from support.recorded import Recorded

from fused_warmup import SGD
from fused_warmup._backend.triton import launcher as backend
from fused_warmup._backend.triton.tables import DeviceTables
from fused_warmup.schedules import cosine


def test_a_captured_launch_reads_the_same_tables_ever_after(monkeypatch):
    launches, capturing = Launches(monkeypatch), False
    monkeypatch.setattr(backend, "_capturing", lambda device: capturing)

    def make():
        return parameters((5, BLOCK + 1))

    ours = SGD(make(), lr=0.1, momentum=0.9, schedule=cosine(40), backend="triton")
    theirs = SGD(make(), lr=0.1, momentum=0.9, schedule=cosine(40), backend="reference")

    def pairs():
        return zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True)

    def new_gradients(seed):
        for p, q in pairs():
            p.grad = draw(p.numel(), torch.float32, seed)
            q.grad = p.grad.clone()

    def check():
        for p, q in pairs():
            assert torch.equal(p, q)
        assert ours.steps_applied == theirs.steps_applied

    def captured():
        nonlocal capturing
        capturing = True
        ours.step()
        capturing = False
        theirs.step()
        return len(launches.recorded) - 1, [p.grad for p, _ in pairs()]

    def replayed(graph):
        launch, grads = graph
        launches.replay(launch)
        for (_, q), grad in zip(pairs(), grads, strict=True):
            q.grad = grad.clone()
        theirs.step()

    for opt in (ours, theirs):
        opt.step()
    static = captured()  # with the eager step's gradients: its tables serve the graph as they are
    new_gradients(1)
    moved = captured()  # with gradients of its own
    new_gradients(2)
    for opt in (ours, theirs):
        opt.param_groups[0]["weight_decay"] = 0.5
        opt.step()
    check()
    for opt in (ours, theirs):
        opt.param_groups[0]["weight_decay"] = 0.0  # a graph has the numbers of its capture
    for graph in (static, moved, static):
        replayed(graph)
        check()
    new_gradients(3)
    for opt in (ours, theirs):
        opt.step()
    check()


@pytest.mark.parametrize("changed_before", [False, True], ids=["own table", "captured copy"])
def test_captured_launches_take_new_options_on_demand(monkeypatch, changed_before):
    launches, capturing = Launches(monkeypatch), False
    monkeypatch.setattr(backend, "_capturing", lambda device: capturing)
    (p,) = parameters((5,))
    p.grad.fill_(1.0)
    opt = SGD([p], lr=1.0, backend="triton")
    (group,) = opt.param_groups

    def moved(step):
        before = p.detach().clone()
        step()
        return (before - p.detach()).mean().item()

    opt.step()
    group["lr"] = 2.0 if changed_before else 1.0
    capturing = True
    opt.step()
    capturing = False
    group["lr"] = 4.0
    assert moved(lambda: launches.replay(-1)) == pytest.approx(2.0 if changed_before else 1.0)
    opt.update_captured()
    graph = len(launches.recorded) - 1
    plan = weakref.ref(opt._plan.parts[0])

    def replay():
        if changed_before:  # the copy at the head of the graph
            captured = plan().launcher._tables._captured[0]
            captured.table.copy_(captured.staging)
        launches.replay(graph)

    assert moved(replay) == pytest.approx(4.0)
    group["lr"] = 1.0
    assert moved(opt.step) == pytest.approx(1.0)
    opt.add_param_group({"params": parameters((3,))})
    opt.step()  # by another plan
    gc.collect()
    assert moved(replay) == pytest.approx(4.0)


def test_the_first_step_cannot_be_captured(monkeypatch):
    monkeypatch.setattr(backend, "_capturing", lambda device: True)
    opt = SGD(parameters((5,)), lr=0.1, backend="triton")
    with pytest.raises(RuntimeError, match="run one step before the capture"):
        opt.step()
    assert opt.steps_applied == 0


def test_a_capture_that_loads_a_kernel_says_what_to_do(monkeypatch):
    """A step before it was of another kind: without a scaler."""
    capturing = False
    monkeypatch.setattr(backend, "_capturing", lambda device: capturing)
    opt = SGD(parameters((5,)), lr=0.1, backend="triton")
    opt.step()

    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(backend.Launcher, "_launch_first", fail)
    opt.grad_scale = torch.ones(())
    with pytest.raises(RuntimeError, match=r"^operation not permitted"):
        opt.step()
    capturing = True
    with pytest.raises(RuntimeError, match=r"not permitted.* one step .* with a scaler if"):
        opt.step()


def test_a_capture_that_needs_pinned_memory_says_what_to_do(monkeypatch):
    recorded = Recorded([torch.ones(3)])
    (tables, *_) = recorded.step([torch.ones(3)])
    there = DeviceTables(torch.device("cpu"))
    there.holding(tables, 1, False)
    there.holding(tables, 2, True)  # takes the block that was put aside

    def fail(size):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(there, "_staging", fail)
    with pytest.raises(RuntimeError, match="run one step with the same parameters before each"):
        there.holding(tables, 3, True)
