"""Averages that no step has moved yet are their parameters, whenever the model is loaded."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fused_warmup import SGD


def fresh(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, SGD]:
    model = nn.Linear(2, 1, bias=False).to(dtype)
    return model, SGD(model.parameters(), lr=0.0, ema_decay=0.5)


def load(model: nn.Module, value: float) -> None:
    model.load_state_dict({"weight": torch.full((1, 2), value)})


def reload(model: nn.Module, opt: SGD) -> tuple[nn.Module, SGD]:
    """As Accelerate's ``prepare`` does."""
    opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    return model, opt


def average_after_a_step(model: nn.Module, opt: SGD) -> list[float]:
    model.weight.grad = torch.ones_like(model.weight)
    opt.step()
    return opt.state[model.weight]["ema"].flatten().tolist()


@pytest.mark.parametrize(
    "between",
    [
        reload,
        lambda model, opt: reload(*reload(model, opt)),
        lambda *both: copy.deepcopy(both),
        lambda *both: pickle.loads(pickle.dumps(both)),
    ],
)
def test_a_model_that_is_loaded_late(between: Callable) -> None:
    model, opt = between(*fresh())
    load(model, 3.0)
    assert average_after_a_step(model, opt) == [3.0, 3.0]


def test_evaluated_before_the_first_step() -> None:
    model, opt = fresh(torch.bfloat16)
    for value in (3.0, 5.0):
        load(model, value)
        assert opt.averaged(model).weight.flatten().tolist() == [value, value]
        with opt.swap_averaged(model):
            assert model.weight.flatten().tolist() == [value, value]
    load(model, 7.0)
    assert average_after_a_step(model, opt) == [7.0, 7.0]


def test_saved_before_the_first_step() -> None:
    model, opt = fresh()
    load(model, 3.0)
    saved = copy.deepcopy(opt.state_dict())
    other, resumed = fresh()
    resumed.load_state_dict(saved)
    load(other, 3.0)
    assert average_after_a_step(other, resumed) == [3.0, 3.0]


def test_an_average_that_is_loaded_stays() -> None:
    model, opt = fresh()
    load(model, 1.0)
    average_after_a_step(model, opt)
    load(model, 3.0)
    assert average_after_a_step(model, opt) == [2.0, 2.0]
    opt.steps_applied = 0  # its schedules begin anew, its average does not
    other, resumed = fresh()
    resumed.load_state_dict(opt.state_dict())
    load(other, 2.0)
    assert average_after_a_step(other, resumed) == [2.0, 2.0]
    load(other, 4.0)
    assert average_after_a_step(other, resumed) == [3.0, 3.0]


def test_an_average_that_is_filled_in_place_stays() -> None:
    # torch.distributed.checkpoint reads its files into the tensors of the new optimizer.
    model, opt = fresh()
    load(model, 1.0)
    state = opt.state_dict()
    state["state"][0]["ema"].fill_(3.0)
    opt.load_state_dict(state)
    assert average_after_a_step(model, opt) == [2.0, 2.0]


def skip_a_step(model: nn.Module, opt: SGD) -> None:
    opt.grad_scale, opt.found_inf = torch.tensor(2.0), torch.tensor(1.0)
    model.weight.grad = torch.full_like(model.weight, torch.inf)
    opt.step()
    opt.grad_scale, opt.found_inf = None, torch.tensor(0.0)  # of the step that comes


@pytest.mark.parametrize("skipped", [1, 3])
@pytest.mark.parametrize(
    "between",
    [
        lambda *both: both,
        reload,
        lambda *both: copy.deepcopy(both),
        lambda *both: pickle.loads(pickle.dumps(both)),
    ],
)
def test_a_model_that_is_loaded_after_skipped_steps(between: Callable, skipped: int) -> None:
    model, opt = fresh()
    for _ in range(skipped):
        skip_a_step(model, opt)
    model, opt = between(model, opt)
    load(model, 3.0)
    with opt.swap_averaged(model):
        assert model.weight.flatten().tolist() == [3.0, 3.0]
    load(model, 5.0)
    assert average_after_a_step(model, opt) == [5.0, 5.0]
    load(model, 7.0)
    assert average_after_a_step(model, opt) == [6.0, 6.0]


def test_an_average_that_an_applied_step_under_amp_moved_stays() -> None:
    model, opt = fresh()
    load(model, 1.0)
    opt.found_inf = torch.tensor(0.0)
    assert average_after_a_step(model, opt) == [1.0, 1.0]
    assert opt._host_step is None  # whether the step was applied, the device knows
    load(model, 3.0)
    assert opt.averaged(model).weight.flatten().tolist() == [1.0, 1.0]
    assert average_after_a_step(model, opt) == [2.0, 2.0]
    assert opt._host_step is not None


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_parameter_without_a_gradient_starts_with_its_own_first_step(backend: str) -> None:
    used, unused = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    opt = SGD([used, unused], lr=0.0, ema_decay=0.5, backend=backend)
    for value in (1.0, 2.0, 3.0):
        with torch.no_grad():
            unused.fill_(value)
        used.grad = torch.ones(2)
        opt.step()
    unused.grad = torch.ones(2)
    opt.step()
    assert opt.state[unused]["ema"].tolist() == [3.0, 3.0]
    with torch.no_grad():
        unused.fill_(5.0)
    opt.step()
    assert opt.state[unused]["ema"].tolist() == [4.0, 4.0]
