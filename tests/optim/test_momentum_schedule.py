"""The momentum's schedule: torch's loop with ``group["momentum"]`` set before each step."""

import copy
from typing import Any
from unittest.mock import patch

import pytest
import torch
from support import copies, models, parameter, randn, refused, same_bits, set_grads
from torch import Tensor

from fused_warmup import SGD, Schedule, linear_warmup
from fused_warmup.schedules import (
    Kind,
    PastEnd,
    Segment,
    cosine,
    one_cycle,
    one_cycle_momentum,
    table,
)

FACTORS = (1.0, 0.5, 0.0, 0.75, 0.0, 1.0, 0.25)
SHAPES = ((33,), (4, 5), (1025,))


def torch_history(params: list[Tensor], momenta: list[float], **options: Any) -> list[list[Tensor]]:
    """Parameters after each step of torch.optim.SGD under the given momenta."""
    opt = torch.optim.SGD(params, lr=0.1, momentum=0.9, foreach=False, **options)
    history = []
    for step, momentum in enumerate(momenta):
        opt.param_groups[0]["momentum"] = momentum
        set_grads(params, step)
        opt.step()
        history.append(copies(params))
    return history


OPTIONS = (
    {},
    {"weight_decay": 0.01, "maximize": True},
    {"nesterov": True},
    {"dampening": 0.3},
)


@pytest.mark.parametrize("first", [0, 2], ids=["from 1", "from 0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_torch_with_the_momentum_of_each_step(
    options: dict[str, Any], backend: str, dtype: torch.dtype, first: int
) -> None:
    """A momentum of 0 leaves the buffer alone, and the first step with one is the first."""
    # Under nesterov torch's constructor, not its step, wants a momentum above 0.
    factors = FACTORS[first:]
    expected = torch_history(models(*SHAPES, dtype=dtype), [0.9 * f for f in factors], **options)
    params = models(*SHAPES, dtype=dtype)
    options = {"momentum_schedule": table(factors), "backend": backend, **options}
    opt = SGD(params, lr=0.1, momentum=0.9, **options)
    for step, after in enumerate(expected):
        set_grads(params, step)
        opt.step()
        for p, q in zip(params, after, strict=True):
            assert same_bits(p, q)
    assert opt.steps_applied == len(factors)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_is_the_references(dtype: torch.dtype) -> None:
    runs = []
    for backend in ("cpu", "reference"):
        params = models(*SHAPES, dtype=dtype)
        schedule = one_cycle_momentum(6, low=0.0)
        opt = SGD(params, lr=0.1, momentum=0.9, momentum_schedule=schedule, backend=backend)
        for step in range(8):
            set_grads(params, step)
            opt.step()
        runs.append([*params, *(opt.state[p]["momentum_buffer"] for p in params)])
    assert all(map(same_bits, *runs))


def test_each_group_has_its_own() -> None:
    """Groups may share a schedule between them, and between rate and momentum."""
    shared, own = table(FACTORS), cosine(7)
    params = models((5,), (6,), (7,), (8,))
    opt = SGD(
        [
            {"params": [params[0]]},
            {"params": [params[1]], "momentum_schedule": own},
            {"params": [params[2]], "momentum_schedule": None, "schedule": own},
            {"params": [params[3]], "schedule": shared},
        ],
        lr=0.1,
        momentum=0.9,
        momentum_schedule=shared,
    )
    twins = models((5,), (6,), (7,), (8,))
    theirs = torch.optim.SGD([{"params": [p]} for p in twins], lr=0.1, momentum=0.9, foreach=False)
    for step in range(7):
        one, two = shared(step), own(step)
        rates = ((1.0, one), (1.0, two), (two, 1.0), (one, one))
        for group, (lr, momentum) in zip(theirs.param_groups, rates, strict=True):
            group["lr"], group["momentum"] = 0.1 * lr, 0.9 * momentum
        for each in (params, twins):
            set_grads(each, step)
        opt.step()
        theirs.step()
        # A cosine may differ in its last bit between the kernel's libm and Python's.
        for p, q in zip(params, twins, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=0)
    assert same_bits(params[0], twins[0])
    assert same_bits(params[3], twins[3])


def test_a_skipped_step_does_not_advance_it() -> None:
    params, twins = models((40,)), models((40,))
    schedule = table((1.0, 0.5, 0.25))
    opt = SGD(params, lr=0.1, momentum=0.9, momentum_schedule=schedule)
    expected = torch_history(twins, [0.9, 0.45, 0.225])
    for step, skips in enumerate((0, 2, 1)):
        set_grads(params, step)
        for found_inf in (*[1.0] * skips, 0.0):
            opt.found_inf = torch.tensor(found_inf)
            opt.step()
        assert same_bits(params[0], expected[step][0])


def test_a_resumed_run_continues_with_the_same_bits() -> None:
    schedule = {"schedule": one_cycle(10), "momentum_schedule": one_cycle_momentum(10)}
    params = models((40,))
    opt = SGD(params, lr=0.1, momentum=0.95, **schedule)
    for step in range(10):
        if step == 4:
            saved, kept = copy.deepcopy(opt.state_dict()), copies(params)
        set_grads(params, step)
        opt.step()
    assert isinstance(saved["param_groups"][0]["momentum_schedule"], str)
    resumed = [parameter(kept[0].clone())]
    other = SGD(resumed, lr=1.0, momentum=0.5)
    other.load_state_dict(saved)
    for step in range(4, 10):
        set_grads(resumed, step)
        other.step()
    assert same_bits(resumed[0], params[0])
    assert Schedule.from_dict(other.param_groups[0]["momentum_schedule"]) == one_cycle_momentum(10)


def test_torch_optimizers_state_dict_leaves_it_alone() -> None:
    theirs = torch.optim.SGD(models((3,)), lr=0.1, momentum=0.9)
    opt = SGD(models((3,)), lr=0.1, momentum=0.9, momentum_schedule=cosine(4))
    opt.load_state_dict(theirs.state_dict())
    assert Schedule.from_dict(opt.param_groups[0]["momentum_schedule"]) == cosine(4)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_another_one_in_mid_run_is_noticed(backend: str) -> None:
    params, twins = models((40,)), models((40,))
    opt = SGD(params, lr=0.1, momentum=0.9, momentum_schedule=table([0.5]), backend=backend)
    expected = torch_history(twins, [0.45, 0.225, 0.9])
    for step, new in enumerate((table([0.5]), table([0.25]), None)):
        opt.param_groups[0]["momentum_schedule"] = new
        set_grads(params, step)
        opt.step()
        assert same_bits(params[0], expected[step][0])


def test_what_is_no_schedule_is_refused() -> None:
    params = models((3,))
    with pytest.raises(TypeError, match=r"momentum_schedule=0\.5 is a float, it must be"):
        SGD(params, lr=0.1, momentum=0.9, momentum_schedule=0.5)
    opt = SGD(params, lr=0.1, momentum=0.9)
    with refused(opt, TypeError, "momentum_schedule=<", "must be a Schedule"):
        opt.add_param_group({"params": models((2,)), "momentum_schedule": lambda t: 1.0})
    set_grads(params, 0)
    opt.step()
    state = opt.state_dict()
    state["param_groups"][0]["momentum_schedule"] = "{"
    with refused(opt, ValueError, "momentum_schedule='{' is no schedule's text"):
        opt.load_state_dict(state)
    opt.param_groups[0]["momentum_schedule"] = 0.5
    with refused(opt, TypeError, "momentum_schedule=0.5 is a float"):
        opt.state_dict()


OVERFLOWS = Schedule((Segment(Kind.EXP, PastEnd.CONTINUE, p=800.0),))
"""1, then infinity: 0 times that is no number."""


@pytest.mark.parametrize("schedule", [cosine(4), OVERFLOWS], ids=["cosine", "overflows"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_without_momentum_it_does_nothing(backend: str, schedule: Schedule) -> None:
    params, twins = models((40,)), models((40,))
    opt = SGD(params, lr=0.1, momentum_schedule=schedule, backend=backend)
    expected = torch_history(twins, [0.0, 0.0])
    for step in range(2):
        assert opt.scheduler().optimizer.param_groups[0]["momentum"] == 0.0
        set_grads(params, step)
        opt.step()
        assert same_bits(params[0], expected[step][0])
    assert "momentum_buffer" not in opt.state[params[0]]


def test_loggers_see_the_momentum_in_force() -> None:
    params = models((3,))
    schedule = one_cycle_momentum(4, anneal_strategy="linear", low=0.5)
    opt = SGD(params, lr=0.1, momentum=0.8, momentum_schedule=schedule)
    scheduler = opt.scheduler()
    for step in range(3):
        momentum = scheduler.optimizer.param_groups[0]["momentum"]
        assert momentum == pytest.approx(0.8 * schedule(step), rel=1e-15)
        set_grads(params, step)
        opt.step()
        scheduler.step()
    assert opt.param_groups[0]["momentum"] == 0.8


@pytest.mark.parametrize("shared", [True, False])
def test_schedules_of_many_groups_are_read_a_few_times_each(shared: bool) -> None:
    """Construction, the first step, a load: linear in the groups, once each if they share one."""
    schedule = linear_warmup(5).then(cosine(9))
    n, own = 40, [schedule if shared else schedule.scaled(1 + i) for i in range(40)]
    options = {} if shared else {"schedule": None}
    groups = [
        {"params": [parameter(randn(3, seed=i))], **({} if shared else {"schedule": each})}
        for i, each in enumerate(own)
    ]
    calls = 0
    real = Schedule.from_dict.__func__  # type: ignore[attr-defined]

    def counted(cls: type, plain: Any) -> Schedule:
        nonlocal calls
        calls += 1
        return real(cls, plain)

    with patch.object(Schedule, "from_dict", classmethod(counted)):
        opt = SGD(groups, lr=0.1, momentum=0.9, **{"schedule": schedule, **options})
        assert calls <= (2 if shared else n)
        calls = 0
        for group in opt.param_groups:
            set_grads(group["params"], 0)
        opt.step()
        assert calls <= (4 if shared else 4 * n)
        calls = 0
        saved = opt.state_dict()
        assert calls <= (1 if shared else n)
        calls = 0
        opt.load_state_dict(saved)
        assert calls <= (8 if shared else 8 * n)
