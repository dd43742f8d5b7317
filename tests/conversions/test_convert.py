"""convert: the fused optimizer continues torch's run, step for step."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import models, set_grads
from test_from_torch import CLOSED
from torch.optim.lr_scheduler import (
    ConstantLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from fused_warmup import SGD, convert
from fused_warmup.schedules import Schedule, constant

Make = Callable[[torch.optim.Optimizer], Any]
OPTIONS = {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}
half = constant(0.5)
HOST = {"CyclicLR", "CyclicLR 2", "CyclicLR exp", "OneCycleLR", "OneCycleLR linear"}


def run(make: Make | None, **options: Any) -> tuple[torch.optim.SGD, Any]:
    weight, bias = models((5, 3), (7,))
    groups: list[dict[str, Any]] = [
        {"params": [weight]},
        {"params": [bias], "lr": 0.2, "weight_decay": 0.0},
    ]
    opt = torch.optim.SGD(groups, lr=0.1, foreach=False, **{**OPTIONS, **options})
    opt._opt_called = True  # type: ignore[attr-defined]  # torch steps inner schedulers at once
    return opt, make(opt) if make else None


def advance(opt: torch.optim.Optimizer, scheduler: Any, t: int) -> list[torch.Tensor]:
    params = [p for group in opt.param_groups for p in group["params"]]
    set_grads(params, t)
    opt.step()
    if isinstance(scheduler, LRScheduler):
        scheduler.step()
    return [p.detach().clone() for p in params]


def same_run(opt: SGD, old: torch.optim.SGD, scheduler: Any, first: int, last: int) -> None:
    """Both own their parameters; float32, and rates equal to 1e-12: one unit in the last place."""
    for t in range(first, last):
        used = [float(group["lr"]) for group in old.param_groups]
        mine, theirs = advance(opt, None, t), advance(old, scheduler, t)
        assert opt.get_last_lr() == pytest.approx(used, rel=0, abs=1e-12)
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)


def twins(make: Make | None, done: int, **options: Any) -> tuple[Any, ...]:
    """Two equal runs of torch's, ``done`` steps in."""
    runs = [run(make, **options) for _ in range(2)]
    for t in range(done):
        for opt, scheduler in runs:
            advance(opt, scheduler, t)
    return (*runs[0], *runs[1])


@pytest.mark.parametrize("done", [0, 3, 12])
@pytest.mark.parametrize("name", [name for name in CLOSED if name not in HOST])
def test_continues_any_scheduler(name: str, done: int) -> None:
    opt, scheduler, old, theirs = twins(CLOSED[name], done)
    fused = convert(opt, scheduler)
    assert (type(fused), fused.steps_applied) == (SGD, done)
    same_run(fused, old, theirs, done, done + 30)


@pytest.mark.parametrize("done", [0, 5])
@pytest.mark.parametrize("cycle_momentum", [False, True])
def test_continues_a_cycle(cycle_momentum: bool, done: int) -> None:
    for make in (
        lambda o: OneCycleLR(o, [0.5, 0.3], 30, cycle_momentum=cycle_momentum),
        lambda o: OneCycleLR(o, 0.5, 30, max_momentum=[0.9, 0.8], cycle_momentum=cycle_momentum),
        lambda o: CyclicLR(o, [0.0, 0.1], 0.2, 4, cycle_momentum=cycle_momentum),
        lambda o: CyclicLR(o, 0.1, 0.2, 4, base_momentum=0.0, cycle_momentum=cycle_momentum),
    ):
        opt, scheduler, old, theirs = twins(make, done)
        fused = convert(opt, scheduler)
        cycled = [group["momentum_schedule"] is not None for group in fused.param_groups]
        assert cycled == [cycle_momentum] * 2
        same_run(fused, old, theirs, done, 28)


def test_a_momentum_that_is_cycled_between_zeros() -> None:
    make = lambda o: CyclicLR(o, 0.1, 0.2, 4, base_momentum=0.0, max_momentum=0.0)  # noqa: E731
    opt, scheduler, old, theirs = twins(make, 3)
    fused = convert(opt, scheduler)
    assert fused.param_groups[0]["momentum_schedule"] is None
    same_run(fused, old, theirs, 3, 9)


def test_a_cycle_once_an_epoch() -> None:
    opt, scheduler, old, theirs = twins(lambda o: CyclicLR(o, 0.1, 0.2, 4), 0)
    fused = convert(opt, scheduler, steps_per_epoch=2)
    for t in range(20):
        mine, expected = advance(fused, None, t), advance(old, None, t)
        for a, b in zip(mine, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)
        if t % 2:
            theirs.step()


@pytest.mark.parametrize("options", [{}, {"momentum": 0.0}, {"dampening": 0.0, "nesterov": True}])
def test_continues_without_a_scheduler(options: dict[str, Any]) -> None:
    opt, _, old, _ = twins(None, 4, **options)
    opt.param_groups[1]["lr"] = old.param_groups[1]["lr"] = 0.05
    fused = convert(opt, backend="reference")
    assert fused.backend == "reference"
    assert [group["schedule"] for group in fused.param_groups] == [None, None]
    same_run(fused, old, None, 4, 9)


@pytest.mark.parametrize("set_to", [{"momentum": 0.0}, {"dampening": 0.1}])
def test_nesterov_whose_momentum_was_changed_later(set_to: dict[str, float]) -> None:
    old, _ = run(None, dampening=0.0, nesterov=True)
    old.param_groups[1].update(set_to)
    advance(old, None, 0)
    opt, beside = convert(old), copy.deepcopy(old)
    assert [group["nesterov"] for group in opt.param_groups] == [True, True]
    same_run(opt, beside, None, 1, 4)


def test_a_run_that_has_left_its_course() -> None:
    """Somebody halved the rates by hand: what comes is from there, not from the beginning."""
    opt, scheduler, old, theirs = twins(lambda o: ExponentialLR(o, 0.9), 5)
    for group in (*opt.param_groups, *old.param_groups):
        group["lr"] *= 0.5
    same_run(convert(opt, scheduler), old, theirs, 5, 20)


def test_a_scheduler_that_resumed_wrongly() -> None:
    """pytorch#65342: SequentialLR built after the optimizer was loaded starts from its first lr."""

    def make(o: torch.optim.Optimizer) -> SequentialLR:
        return SequentialLR(o, [ConstantLR(o, 0.1, 4), ExponentialLR(o, 0.9)], [4])

    def resumed() -> tuple[torch.optim.SGD, SequentialLR]:
        first, scheduler = run(make)
        for t in range(7):
            advance(first, scheduler, t)
        opt, _ = run(None)
        opt.load_state_dict(first.state_dict())
        after = make(opt)
        after.load_state_dict(scheduler.state_dict())
        return opt, after

    (opt, scheduler), (old, theirs) = resumed(), resumed()
    same_run(convert(opt, scheduler), old, theirs, 7, 20)


def test_once_an_epoch() -> None:
    runs = [run(lambda o: StepLR(o, 2, 0.5)) for _ in range(2)]
    for t in range(9):
        for opt, scheduler in runs:
            advance(opt, None, t)
            if t % 3 == 2:
                scheduler.step()
    (opt, scheduler), (old, theirs) = runs
    fused = convert(opt, scheduler, steps_per_epoch=3)
    assert fused.steps_applied == 9
    for t in range(9, 24):
        used = [group["lr"] for group in old.param_groups]
        advance(fused, None, t)
        advance(old, None, t)
        assert fused.get_last_lr() == pytest.approx(used, rel=1e-12)
        if t % 3 == 2:
            theirs.step()


def test_a_lambda_needs_the_length() -> None:
    opt, scheduler, old, theirs = twins(lambda o: LambdaLR(o, lambda t: 1 / (1 + t)), 3)
    with pytest.raises(ValueError, match="steps="):
        convert(opt, scheduler)
    same_run(convert(opt, scheduler, steps=20), old, theirs, 3, 20)


def test_a_plateau_moves_to_the_new_optimizer() -> None:
    opt, scheduler = run(lambda o: ReduceLROnPlateau(o, patience=0, factor=0.5))
    fused = convert(opt, scheduler)
    for t in range(3):
        advance(fused, None, t)
        scheduler.step(1.0)
    assert [group["lr"] for group in fused.param_groups] == [0.025, 0.05]


def test_keeps_names_and_drops_what_schedulers_left_behind() -> None:
    model = torch.nn.Linear(2, 2)
    opt = torch.optim.SGD(model.named_parameters(), lr=0.4)
    opt.param_groups[0]["name"] = "all"
    fused = convert(opt, OneCycleLR(opt, 0.5, 30, cycle_momentum=False))
    group = fused.param_groups[0]
    assert (group["name"], group["param_names"]) == ("all", ["weight", "bias"])
    assert not {"initial_lr", "max_lr", "min_lr"} & set(group)
    assert isinstance(Schedule.from_dict(group["schedule"]), Schedule)


@pytest.mark.parametrize("make", [None, lambda o: StepLR(o, 2)])
def test_schedules_that_torch_keeps_without_following_them(
    make: Make | None,
) -> None:
    """torch.optim.SGD keeps what it loads from ours in its groups, and does not follow it."""
    saved = SGD(models((5, 3)), lr=0.1, momentum=0.9, schedule=half, momentum_schedule=half)
    runs = []
    for _ in range(2):
        opt = torch.optim.SGD(models((5, 3)), lr=0.1, foreach=False)
        opt.load_state_dict(saved.state_dict())
        runs += [opt, make(opt) if make else None]
    opt, scheduler, old, theirs = runs
    same_run(convert(opt, scheduler), old, theirs, 0, 5)


def test_refuses() -> None:
    opt, _ = run(None)
    with pytest.raises(ValueError, match="another optimizer"):
        convert(run(None)[0], StepLR(opt, 3))
    with pytest.raises(TypeError, match=r"torch\.optim\.SGD.*fused_warmup\.attach\(optimizer, "):
        convert(torch.optim.Adam(models((2,))))
    with pytest.raises(TypeError, match=r"got a StepLR, .*the optimizer comes first"):
        convert(StepLR(opt, 3), opt)
    with pytest.raises(TypeError, match=r"got the class StepLR, .*build one of it"):
        convert(run(None)[0], StepLR)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.parametrize("done", [1, 3])
def test_sparse_momentum(done: int) -> None:
    """Torch keeps the momentum of an embedding with sparse gradients sparse."""

    def run(embedding: torch.nn.Embedding, opt: torch.optim.Optimizer, first: int, n: int) -> None:
        for i in range(first, first + n):
            opt.zero_grad()
            embedding(torch.tensor([i % 5, 3])).pow(2).sum().backward()
            opt.step()

    torch.manual_seed(0)
    mine = torch.nn.Embedding(5, 3, sparse=True)
    theirs = torch.nn.Embedding(5, 3, sparse=True)
    theirs.load_state_dict(mine.state_dict())
    opts = [torch.optim.SGD(e.parameters(), lr=0.1, momentum=0.9) for e in (mine, theirs)]
    for embedding, opt in zip((mine, theirs), opts, strict=True):
        run(embedding, opt, 0, done)
    fused = convert(opts[0], ExponentialLR(opts[0], 1.0))
    expected = opts[1].state[theirs.weight]["momentum_buffer"].to_dense()
    assert torch.equal(fused.state[mine.weight]["momentum_buffer"], expected)
    run(mine, fused, done, 4)
    run(theirs, opts[1], done, 4)
    torch.testing.assert_close(mine.weight, theirs.weight, rtol=1e-6, atol=1e-7)
