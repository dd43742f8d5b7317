"""A training step under torch.compile: the numbers of eager steps, and no recompilation."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from support import models, same_bits, set_grads
from torch import Tensor
from torch._dynamo.utils import counters
from torch.optim.lr_scheduler import OneCycleLR

from fused_warmup import SGD, RateLog, Schedule, clip_grad_norm_, large_minibatch, linear_warmup
from fused_warmup.schedules import cosine

# The compiler itself looks at the .grad of the loss.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

SINCE_2_12 = pytest.mark.skipif(
    torch.__version__.startswith("2.11."),
    reason="Dynamo of torch 2.11 traces neither attributes set on an optimizer nor frozen classes",
)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def training(compiled: bool, **options: Any) -> tuple[SGD, list[Tensor], Callable[[], Tensor]]:
    params = models((4, 3), (4,))
    opt = SGD(params, lr=0.1, momentum=0.9, dampening=0.1, **options)
    x = torch.arange(3.0)

    def train_step() -> Tensor:
        opt.zero_grad()
        loss = (params[0].mv(x) + params[1]).tanh().pow(2).sum()
        loss.backward()
        opt.step()
        return loss.detach()

    return opt, params, torch.compile(train_step, backend="eager") if compiled else train_step


@pytest.mark.parametrize("backend", [None, "reference"])
def test_the_rate_changes_without_recompiling(backend) -> None:
    options = {"schedule": linear_warmup(5, start=0.1), "backend": backend}
    eager, params, step = training(False, **options)
    compiled, others, compiled_step = training(True, **options)
    frames = []
    for _ in range(8):
        assert same_bits(step(), compiled_step())
        assert all(map(same_bits, params, others))
        frames.append(counters["frames"]["total"])
    assert compiled.get_last_lr() == eager.get_last_lr() == [0.1]
    assert compiled.steps_applied == 8
    # The first step may be traced apart: gradients are not there yet.
    assert frames[0] > 0
    assert frames[2:] == [frames[1]] * 6
    assert not counters["recompiles"]


def test_a_scheduler_beside_the_compiled_step() -> None:
    eager, params, step = training(False)
    compiled, others, compiled_step = training(True)
    schedulers = [OneCycleLR(opt, 0.5, total_steps=12) for opt in (eager, compiled)]
    frames = []
    for _ in range(8):
        step()
        compiled_step()
        for scheduler in schedulers:
            scheduler.step()
        assert all(map(same_bits, params, others))
        frames.append(counters["frames"]["total"])
    assert frames[2:] == [frames[1]] * 6


def test_hooks_fire_in_a_compiled_step() -> None:
    opt, params, step = training(True)
    _, others, eager_step = training(False)
    seen: list[int] = []
    opt.register_step_pre_hook(lambda *_: seen.append(-1))
    opt.register_step_post_hook(lambda *_: seen.append(opt.steps_applied))
    for _ in range(3):
        step()
        eager_step()
    assert seen == [-1, 1, -1, 2, -1, 3]
    assert all(map(same_bits, params, others))


def test_a_compiled_model_and_an_eager_step() -> None:
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        opt = SGD(model.parameters(), lr=0.1, momentum=0.9, schedule=linear_warmup(3))
        run = torch.compile(model, backend="eager") if compiled else model
        for _ in range(4):
            opt.zero_grad()
            run(torch.ones(2, 3)).pow(2).sum().backward()
            opt.step()
        results.append(list(model.parameters()))
    assert all(map(same_bits, *results))


def test_compiled_step_of_its_own() -> None:
    opt = SGD(models((3,)), lr=0.1)
    step = torch.compile(opt.step, backend="eager")
    for i in range(4):
        set_grads(opt.param_groups[0]["params"], i)
        step()
    twin = SGD(models((3,)), lr=0.1)
    for i in range(4):
        set_grads(twin.param_groups[0]["params"], i)
        twin.step()
    assert opt.steps_applied == 4
    assert same_bits(opt.param_groups[0]["params"][0], twin.param_groups[0]["params"][0])


def test_clipping_in_a_compiled_step() -> None:
    """And gradients that are clipped and then dropped, which the next step must not divide."""
    results = []
    for compiled in (False, True):
        weight = torch.zeros(2, requires_grad=True)
        opt = SGD([weight], lr=1.0)

        def train_step(
            applies: bool, weight: Tensor = weight, opt: SGD = opt
        ) -> tuple[Tensor, Tensor]:
            opt.zero_grad()
            (weight * torch.tensor([3.0, 4.0])).sum().backward()
            norm = clip_grad_norm_(opt, 1.0)
            if not applies:
                opt.zero_grad()
                (weight * torch.tensor([3.0, 4.0])).sum().backward()
            opt.step()
            return norm, weight.detach().clone()

        run = torch.compile(train_step, backend="eager") if compiled else train_step
        results.append([run(applies) for applies in (True, True, False, True)])
    for ours, theirs in zip(*results, strict=True):
        assert all(map(same_bits, ours, theirs))
    assert results[1][2][1].tolist() == pytest.approx([-4.2, -5.6])


def test_a_group_added_and_a_state_loaded_in_a_compiled_function() -> None:
    """What replaces the optimizer's own attributes, beside what replaces its groups' contents."""
    first, second = models((3,), (4,))
    opt = SGD([first], lr=0.1, momentum=0.9)

    def change() -> None:
        opt.add_param_group({"params": [second], "lr": 0.2})
        opt.load_state_dict(opt.state_dict())

    torch.compile(change, backend="eager")()
    before = second.detach().clone()
    set_grads([first, second], 0)
    opt.step()
    assert [group["lr"] for group in opt.param_groups] == [0.1, 0.2]
    assert same_bits(second, before - 0.2 * second.grad)


def test_schedules_set_aside_and_rates_noted_in_a_compiled_function() -> None:
    def train(weight: Tensor, opt: SGD) -> tuple[RateLog, Tensor]:
        weight.sum().backward()
        log = RateLog(opt, 4)
        with opt.without_schedules():
            opt.step()
        opt.step()
        return log, weight.detach().clone()

    for run in (train, torch.compile(train, backend="eager")):
        weight = torch.zeros(2, requires_grad=True)
        log, after = run(weight, SGD([weight], lr=0.5, schedule=linear_warmup(4)))
        assert [step.lr for step in log.read().steps()] == [[0.5], [0.125]]
        assert after.tolist() == [-0.625, -0.625]


@pytest.mark.parametrize(
    "read",
    [
        SGD.lr_tensor,
        SGD.get_last_lr,
        lambda opt: opt.scheduler().get_last_lr(),
        pytest.param(lambda opt: setattr(opt, "steps_applied", 3), marks=SINCE_2_12),
        lambda opt: Schedule.from_dict(dict(opt.param_groups[0]["schedule"]))(3),
        pytest.param(
            lambda opt: linear_warmup(4).then(cosine(8), clock="global")(3), marks=SINCE_2_12
        ),
        pytest.param(
            lambda opt: large_minibatch(1024, steps_per_epoch=100).schedule(3), marks=SINCE_2_12
        ),
        lambda opt: SGD([{"params": [torch.zeros(2)]}], lr=0.5).param_groups[0]["lr"],
    ],
)
def test_what_is_read_in_a_compiled_function(read: Callable[[SGD], Any]) -> None:
    def optimizer() -> SGD:
        return SGD([torch.zeros(2, requires_grad=True)], lr=0.5, schedule=linear_warmup(4))

    assert torch.compile(read, backend="eager")(optimizer()) == read(optimizer())
