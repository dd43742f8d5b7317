"""Updates inside backward: the bits of the usual loop, and gradients that do not pile up."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from distributed import backward_cases as cases
from distributed.common import averaged_step, digest, loss_of, make_model, make_optimizer, values_of
from support import OPTIONS, PATIENCE, copies, same_bits
from support.pool import ranks
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fused_warmup import SGD
from fused_warmup._step.plan import Plan
from fused_warmup.distributed import StepInBackward
from fused_warmup.schedules import cosine, linear_warmup

Make = Callable[[nn.Module], SGD]


def all_of(opt: SGD) -> list[Tensor]:
    return [*values_of(opt), opt.lr_tensor().clone()]


def run(model: nn.Module, opt: SGD, steps: int) -> list[list[Tensor]]:
    """The usual loop."""
    history = []
    for step in range(steps):
        opt.zero_grad()
        loss_of(model, step, 0).backward()
        opt.step()
        history.append(all_of(opt))
    return history


def both(make: Make = make_optimizer) -> tuple[tuple[nn.Module, SGD], tuple[nn.Module, SGD]]:
    usual, inside = make_model(), make_model()
    opt = make(inside)
    StepInBackward(opt)
    return (usual, make(usual)), (inside, opt)


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(same_bits, a, b))


@pytest.mark.parametrize("options", OPTIONS[::3], ids=str)
def test_bits_of_the_usual_loop(options: dict[str, Any]) -> None:
    usual, inside = both(lambda model: make_optimizer(model, **options))
    for a, b in zip(run(*usual, 6), run(*inside, 6), strict=True):
        assert equal(a, b)
    assert inside[1].steps_applied == 6


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_groups_with_rates_and_schedules_of_their_own(backend: str) -> None:
    def make(model: nn.Module) -> SGD:
        first, *rest = model.children()
        groups = [
            {"params": [*first.parameters()], "schedule": linear_warmup(4), "momentum": 0.0},
            {"params": [p for layer in rest for p in layer.parameters()], "lr": 0.03},
        ]
        return SGD(groups, lr=torch.tensor(0.1), momentum=0.8, schedule=cosine(9), backend=backend)

    usual, inside = both(make)
    for a, b in zip(run(*usual, 5), run(*inside, 5), strict=True):
        assert equal(a, b)


def test_gradients_are_gone_and_parameters_have_moved_before_step() -> None:
    _, (model, opt) = both()
    before = copies([*model.parameters()])
    loss_of(model, 0, 0).backward()
    assert all(p.grad is None for p in model.parameters())
    assert not any(map(same_bits, before, model.parameters()))
    assert opt.steps_applied == 0
    opt.step()
    assert opt.steps_applied == 1
    opt.step()  # without a backward: no step, as always
    assert opt.steps_applied == 1


def test_accumulation() -> None:
    (usual, theirs), (inside, ours) = both()
    handle = ours._in_backward
    for step in range(4):
        theirs.zero_grad()
        for i in range(3):
            loss_of(usual, 3 * step + i, 0).backward()
        theirs.step()
        with handle.accumulate():
            for i in range(2):
                loss_of(inside, 3 * step + i, 0).backward()
        assert all(p.grad is not None for p in inside.parameters())
        loss_of(inside, 3 * step + 2, 0).backward()
        assert all(p.grad is None for p in inside.parameters())
        ours.step()
        assert equal(all_of(theirs), all_of(ours))


def test_what_the_last_backward_leaves_over_is_updated_by_step() -> None:
    """A layer that only an accumulated backward used, and one unfrozen late."""
    (usual, theirs), (inside, ours) = both()
    for model, opt, handle in ((usual, theirs, None), (inside, ours, ours._in_backward)):
        model[4].bias.requires_grad_(False)
        for step in range(4):
            opt.zero_grad()
            if step == 2:
                model[4].bias.requires_grad_()
            whole = loss_of(model, step, 0)
            part = model[0](torch.ones(2, 9)).square().mean()  # the first layer only
            if handle is None:
                whole.backward()
            else:
                with handle.accumulate():
                    whole.backward()
            part.backward()
            opt.step()
    assert equal(all_of(theirs), all_of(ours))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.inside, self.out = nn.Linear(9, 9), nn.Linear(9, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inside(torch.tanh(self.inside(x))))


class Checkpointed(Tied):
    reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(super().forward, x.requires_grad_(), use_reentrant=self.reentrant)
        return x * self.out.bias


class Reentrant(Checkpointed):
    reentrant = True


@pytest.mark.parametrize("kind", [Tied, Checkpointed])
def test_shared_weights_and_checkpointed_activations(kind: type[nn.Module]) -> None:
    usual, inside = kind(), kind()
    theirs, ours = make_optimizer(usual), make_optimizer(inside)
    StepInBackward(ours)
    for a, b in zip(run(usual, theirs, 4), run(inside, ours, 4), strict=True):
        assert equal(a, b)


def test_a_second_gradient_before_step_is_refused() -> None:
    """Reentrant checkpoints too give a weight that is used outside of them two gradients."""
    _, (model, _) = both()
    loss_of(model, 0, 0).backward()
    with pytest.raises(RuntimeError, match=r"second gradient before step\(\).*accumulate"):
        loss_of(model, 1, 0).backward()
    reentrant = Reentrant()
    StepInBackward(make_optimizer(reentrant))
    with pytest.raises(RuntimeError, match="second gradient"):
        loss_of(reentrant, 0, 0).backward()


def test_a_graph_that_is_kept_notices_the_update() -> None:
    _, (model, opt) = both()
    loss = loss_of(model, 0, 0)
    loss.backward(retain_graph=True)
    opt.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("unscale", [True, False])
def test_grad_scaler_is_refused(unscale: bool) -> None:
    model = make_model()
    opt = make_optimizer(model, unscale=unscale)
    StepInBackward(opt)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model, 0, 0)).backward()
    if unscale:
        with pytest.raises(RuntimeError, match=r"GradScaler.*bfloat16.*remove\(\)"):
            scaler.step(opt)
    else:  # the scaler itself finds nothing to look at
        with pytest.raises(AssertionError, match="No inf checks"):
            scaler.step(opt)
    assert opt.steps_applied == 0


def test_a_disabled_scaler_is_no_scaler() -> None:
    (usual, theirs), (inside, ours) = both()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for model, opt in ((usual, theirs), (inside, ours)):
        for step in range(3):
            opt.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(model, step, 0)
            scaler.scale(loss).backward()
            scaler.step(opt)
    assert equal(all_of(theirs), all_of(ours))


def test_closure() -> None:
    (usual, theirs), (inside, ours) = both()
    for model, opt in ((usual, theirs), (inside, ours)):
        for step in range(3):

            def closure(model: nn.Module = model, opt: SGD = opt, step: int = step) -> Tensor:
                opt.zero_grad()
                loss = loss_of(model, step, 0)
                loss.backward()
                return loss

            assert opt.step(closure) > 0
    assert equal(all_of(theirs), all_of(ours))


def test_changes_between_steps_are_noticed() -> None:
    """Options, schedules, loaded states, memory swapped under a parameter."""
    results = []
    for inside in (False, True):
        model = make_model()
        opt = make_optimizer(model)
        if inside:
            StepInBackward(opt)
        run(model, opt, 2)
        saved = copy.deepcopy(opt.state_dict())
        opt.param_groups[0]["lr"] = 0.01
        run(model, opt, 1)
        opt.load_state_dict(saved)
        run(model, opt, 2)
        opt.param_groups[0].update(schedule=cosine(50).to_dict(), weight_decay=0.1)
        run(model, opt, 2)
        for p in model.parameters():
            p.data = p.data.clone()
        opt.param_groups[0]["momentum"] = 0.0
        run(model, opt, 2)
        opt.steps_applied = 30
        run(model, opt, 1)
        model[0].weight.data = model[0].weight.data.t().contiguous().t()
        opt.param_groups[0]["momentum"] = 0.7
        run(model, opt, 2)
        results.append(all_of(opt))
    assert equal(*results)


def test_plans_that_graphs_hold_are_kept_and_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays of an update that was captured in backward follow update_captured(), too."""
    monkeypatch.setattr(Plan, "is_captured", True)
    updated: list[Plan] = []
    monkeypatch.setattr(Plan, "update_captured", lambda plan, groups: updated.append(plan))
    model = make_model()
    opt = make_optimizer(model)
    handle = StepInBackward(opt)
    run(model, opt, 1)
    first = handle.plans()
    assert len(first) == len(list(model.parameters()))
    opt.param_groups[0]["schedule"] = cosine(50).to_dict()  # which takes other plans
    run(model, opt, 1)
    second = handle.plans()
    assert not set(first) & set(second)
    opt.update_captured()
    assert set(updated) >= {*first, *second}
    handle.remove()
    updated.clear()
    opt.update_captured()
    assert set(updated) >= {*first, *second}


def test_sparse_gradients() -> None:
    results = []
    for inside in (False, True):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Embedding(20, 6, sparse=True), nn.Flatten(), nn.Linear(12, 1))
        opt = SGD(model.parameters(), lr=0.1, schedule=linear_warmup(4))
        if inside:
            StepInBackward(opt)
        for step in range(3):
            opt.zero_grad()
            model(torch.tensor([[step, 3], [3, 3]])).square().sum().backward()
            opt.step()
        results.append(all_of(opt))
    assert equal(*results)


def test_remove_and_twice() -> None:
    (usual, theirs), (inside, ours) = both()
    with pytest.raises(RuntimeError, match=r"already: call remove\(\)"):
        StepInBackward(ours)
    run(usual, theirs, 4)
    run(inside, ours, 2)
    ours._in_backward.remove()
    for step in (2, 3):
        ours.zero_grad()
        loss_of(inside, step, 0).backward()
        assert all(p.grad is not None for p in inside.parameters())
        ours.step()
    assert equal(all_of(theirs), all_of(ours))
    assert copy.deepcopy(ours)._in_backward is None


MEMORY = """
import re, sys, torch, fused_warmup
from fused_warmup.distributed import StepInBackward
torch.set_num_threads(1)
n, layers = 1024, 40  # 4 MiB a layer
model = torch.nn.Sequential(*(torch.nn.Linear(n, n, bias=False) for _ in range(layers)))
opt = fused_warmup.SGD(model.parameters(), lr=1e-3)
if sys.argv[1] == "inside":
    StepInBackward(opt)
x = torch.ones(2, n)
model(x)  # what a first pass allocates for good

def status(field):
    return int(re.search(field + r":\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024

open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from what is in use
before = status("VmRSS")
for _ in range(2):
    model(x).sum().backward()
    opt.step()
    opt.zero_grad()
print(status("VmHWM") - before)
"""


def test_peak_memory_of_gradients_falls() -> None:
    """Peak resident memory, as the system counts it: 160 MiB of gradients, or a few of them."""
    # Without the variable glibc carves such blocks out of a heap that it rarely gives back.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    grown = {}
    for how in ("usual", "inside"):
        command = [sys.executable, "-c", MEMORY, how]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr
        grown[how] = float(done.stdout)
    assert grown["usual"] >= 150
    assert grown["inside"] <= 40


@pytest.mark.parametrize("bucket_mb", [25, 0.0002], ids=["one_bucket", "many_buckets"])
def test_ddp_updates_buckets(bucket_mb: float) -> None:
    steps = 5
    model = make_model()
    opt = make_optimizer(model)
    for step in range(steps):
        averaged_step(model, opt, [loss_of(model, step, r) for r in (0, 1)])
    for fingerprint, early in ranks(2)(cases.ddp, bucket_mb, steps):
        assert fingerprint == (digest(values_of(opt)), opt.steps_applied, opt.get_last_lr())
        assert early


def test_ddp_accumulates() -> None:
    answers = ranks(2)(cases.accumulated, 3)
    for usual, inside in answers:
        assert usual == inside == answers[0][0]


def test_ranks_that_would_drift_apart_are_refused() -> None:
    for messages in ranks(2)(cases.refusals):
        assert "local=True" in messages[0]
        assert "gradient_as_bucket_view=True" in messages[1]
        assert "find_unused_parameters" in messages[2]
        assert "DTensor" in messages[3]
