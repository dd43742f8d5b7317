"""Steps captured in CUDA graphs: what may change between replays does, what must not move stays."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.gpu_cases import (
    FULL,
    NEEDS_GPU,
    TRAINING,
    assert_rates,
    assert_same,
    captured,
    parameters,
    rates,
)
from torch import Tensor, nn

from fused_warmup import SGD, clip_grad_norm_

pytestmark = [*NEEDS_GPU, pytest.mark.parametrize("backend", ["cuda", "triton"])]

SIZES = (65, 5003, 1)
WARMUPS = 3
REPLAYS = 1000


def sgd(params: Any, backend: str, **options: Any) -> SGD:
    return SGD(params, **{"lr": 0.1, "schedule": TRAINING, "backend": backend, **FULL, **options})


def twins(backend: str, **options: Any) -> tuple[SGD, SGD]:
    """Two optimizers over equal parameters: the one is captured, the other is not."""
    return tuple(sgd(parameters(sizes=SIZES), backend, **options) for _ in range(2))


def params_of(*opts: SGD) -> list[Tensor]:
    return [p for opt in opts for group in opt.param_groups for p in group["params"]]


def tensors_of(opt: SGD) -> list[Tensor]:
    params = params_of(opt)
    return [*params, *(opt.state[p]["momentum_buffer"] for p in params)]


def set_grads(opts: Sequence[SGD], step: int) -> None:
    for opt in opts:
        for i, p in enumerate(params_of(opt)):
            if p.grad is not None:
                p.grad.fill_(((step * 7 + i * 3) % 11 - 5) * 0.1)


def assert_twins(ours: SGD, other: SGD) -> None:
    assert ours.steps_applied == other.steps_applied
    assert_same(tensors_of(ours), tensors_of(other))


def replay_beside(
    graph: torch.cuda.CUDAGraph, ours: Sequence[SGD], others: Sequence[SGD], steps: range
) -> None:
    """Replay a graph of one step, and step the uncaptured twins with the same gradients."""
    for step in steps:
        set_grads([*ours, *others], step)
        graph.replay()
        for other in others:
            other.step()


def test_clipping_replays_with_the_norm_of_each_step(backend: str) -> None:
    ours, other = twins(backend)

    def clipped_step(opt: SGD = ours) -> None:
        clip_grad_norm_(opt, 0.5)
        opt.step()

    set_grads([ours, other], 0)
    graph = captured(clipped_step, WARMUPS)
    for _ in range(WARMUPS):
        clipped_step(other)
    for step in range(20):
        set_grads([ours, other], step)
        graph.replay()
        clipped_step(other)
    assert_twins(ours, other)


def test_step_replays_through_warmup_and_decay(backend: str) -> None:
    ours, other = twins(backend)
    set_grads([ours, other], 0)
    graph = captured(ours.step, WARMUPS)
    for _ in range(WARMUPS):
        other.step()
    history = torch.empty(REPLAYS, dtype=torch.float64, device="cuda")
    for step in range(REPLAYS):
        set_grads([ours, other], step)
        graph.replay()
        history[step] = ours.lr_tensor()[0]
        other.step()
    assert ours.steps_applied == WARMUPS + REPLAYS
    assert_rates(history, rates(TRAINING, 0.1, WARMUPS + REPLAYS)[WARMUPS:])
    assert_twins(ours, other)


class Elementwise(nn.Module):
    """A net without matrix products, whose passes are the same bits captured or not."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.1, 1, 64))
        self.shift = nn.Parameter(torch.linspace(-1, 1, 64))

    def forward(self, x: Tensor) -> Tensor:
        return ((x * self.scale).tanh() + self.shift).square()


def linear_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 8))


def trainer(
    backend: str, make_net: Callable[[], nn.Module], scaler: torch.amp.GradScaler | None
) -> tuple[SGD, Tensor, Tensor, Callable[[], None]]:
    """A whole training step over static inputs, with a factor on the loss that may be infinite."""
    net = make_net().cuda()
    opt = sgd(net.parameters(), backend)
    inputs = torch.zeros(32, 64, device="cuda")
    poison = torch.ones((), device="cuda")

    def run() -> None:
        opt.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.float16, enabled=bool(scaler), cache_enabled=False):
            loss = net(inputs).float().square().mean() * poison
        if scaler is None:
            loss.backward()
            opt.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()

    return opt, inputs, poison, run


@pytest.mark.parametrize("make_net", [Elementwise, linear_net])
def test_whole_training_step_replays(make_net: Callable[[], nn.Module], backend: str) -> None:
    runs = [trainer(backend, make_net, None) for _ in range(2)]
    (ours, inputs, _, run), (other, other_inputs, _, other_run) = runs
    data = torch.randn(16, 32, 64, generator=torch.Generator().manual_seed(5)).cuda()
    for static in (inputs, other_inputs):
        static.copy_(data[0])
    graph = captured(run, WARMUPS)
    for _ in range(WARMUPS):
        other_run()
    history = torch.empty(REPLAYS, dtype=torch.float64, device="cuda")
    for step in range(REPLAYS):
        for static in (inputs, other_inputs):
            static.copy_(data[step % len(data)])
        graph.replay()
        history[step] = ours.lr_tensor()[0]
        other_run()
    assert_rates(history, rates(TRAINING, 0.1, WARMUPS + REPLAYS)[WARMUPS:])
    assert_twins(ours, other)


def test_amp_replays_skip_what_overflows(backend: str) -> None:
    scalers = [torch.amp.GradScaler("cuda", init_scale=64.0, growth_interval=5) for _ in range(2)]
    runs = [trainer(backend, linear_net, scaler) for scaler in scalers]
    (ours, inputs, poison, run), (other, other_inputs, other_poison, other_run) = runs
    data = torch.randn(8, 32, 64, generator=torch.Generator().manual_seed(5)).cuda()
    for static in (inputs, other_inputs):
        static.copy_(data[0])
    graph = captured(run, WARMUPS)
    for _ in range(WARMUPS):
        other_run()
    steps = 300
    for step in range(steps):
        for static in (inputs, other_inputs):
            static.copy_(data[step % len(data)])
        for factor in (poison, other_poison):
            factor.fill_(float("inf") if step % 7 == 3 else 1.0)
        graph.replay()
        other_run()
    skipped = sum(step % 7 == 3 for step in range(steps))
    assert WARMUPS < ours.steps_applied <= WARMUPS + steps - skipped
    assert_rates(ours.lr_tensor(), [0.1 * TRAINING(ours.steps_applied - 1)])
    assert scalers[0].get_scale() == scalers[1].get_scale()
    assert_twins(ours, other)
    assert all(bool(p.isfinite().all()) for p in params_of(ours))


def test_two_optimizers_in_one_graph(backend: str) -> None:
    first, other_first = twins(backend)
    second, other_second = twins(backend, lr=0.3, schedule=None)
    set_grads([first, second, other_first, other_second], 0)

    def run() -> None:
        first.step()
        second.step()

    graph = captured(run, WARMUPS)
    for _ in range(WARMUPS):
        other_first.step()
        other_second.step()
    replay_beside(graph, (first, second), (other_first, other_second), range(50))
    assert_twins(first, other_first)
    assert_twins(second, other_second)


def test_two_graphs_and_eager_steps_share_one_count(backend: str) -> None:
    ours, other = twins(backend)
    set_grads([ours, other], 0)
    graphs = [captured(ours.step, WARMUPS) for _ in range(2)]
    for _ in range(2 * WARMUPS):
        other.step()
    for step in range(60):
        set_grads([ours, other], step)
        (ours.step, graphs[0].replay, graphs[1].replay)[step % 3]()
        other.step()
    assert_twins(ours, other)


def test_update_captured_brings_options_into_replays(backend: str) -> None:
    ours, other = twins(backend)
    set_grads([ours, other], 0)
    graph = captured(ours.step, WARMUPS)
    for _ in range(WARMUPS):
        other.step()
    replay_beside(graph, [ours], [other], range(10))
    for change in ({"lr": 0.01}, {"weight_decay": 0.2, "momentum": 0.5}, {"lr": 0.0}):
        for opt in (ours, other):
            opt.param_groups[0].update(change)
        ours.update_captured()
        replay_beside(graph, [ours], [other], range(10))
        assert_twins(ours, other)


def test_tensor_lr_is_read_at_each_replay(backend: str) -> None:
    lrs = [torch.tensor(0.1, device="cuda") for _ in range(2)]
    ours, other = (sgd(parameters(sizes=SIZES), backend, lr=lr) for lr in lrs)
    set_grads([ours, other], 0)
    graph = captured(ours.step, WARMUPS)
    for _ in range(WARMUPS):
        other.step()
    for value in (0.1, 0.02, 0.3):
        for lr in lrs:
            lr.fill_(value)
        replay_beside(graph, [ours], [other], range(5))
    assert_twins(ours, other)


def test_load_state_dict_keeps_a_graph_valid(backend: str) -> None:
    ours, other = twins(backend)
    set_grads([ours, other], 0)
    graph = captured(ours.step, WARMUPS)
    for _ in range(WARMUPS):
        other.step()
    replay_beside(graph, [ours], [other], range(5))
    saved = copy.deepcopy(ours.state_dict())
    weights = [p.detach().clone() for p in params_of(ours)]
    replay_beside(graph, [ours], [], range(20))
    ours.load_state_dict(saved)
    with torch.no_grad():
        for p, weight in zip(params_of(ours), weights, strict=True):
            p.copy_(weight)
    replay_beside(graph, [ours], [other], range(20))
    assert_twins(ours, other)


def captured_then_grown(backend: str) -> tuple[SGD, SGD, torch.cuda.CUDAGraph]:
    """Twins of which one was captured, and then got a group that its graph does not know."""
    ours, other = twins(backend)
    set_grads([ours, other], 0)
    graph = captured(ours.step, WARMUPS)
    for _ in range(WARMUPS):
        other.step()
    for opt in (ours, other):
        (late,) = parameters(sizes=(9,))
        opt.add_param_group({"params": [late]})
        opt.step()  # with a new plan
        late.grad = None
    return ours, other, graph


def test_graph_outlives_the_plan_it_was_captured_from(backend: str) -> None:
    ours, other, graph = captured_then_grown(backend)
    # Memory that the old plan would have freed is now somebody else's.
    junk = [torch.full((2**k,), 255, dtype=torch.uint8, device="cuda") for k in range(8, 22)]
    replay_beside(graph, [ours], [other], range(10))
    assert all(bool((each == 255).all()) for each in junk)
    assert_twins(ours, other)


def test_update_captured_reaches_a_graph_of_an_older_plan(backend: str) -> None:
    ours, other, graph = captured_then_grown(backend)
    ours.param_groups[0]["lr"] = other.param_groups[0]["lr"] = 0.02
    ours.update_captured()
    replay_beside(graph, [ours], [other], range(10))
    assert_twins(ours, other)
