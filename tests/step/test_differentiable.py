"""Autograd through the step, as torch's tests of its own optimizers do it."""

from typing import Any

import pytest
import torch
from support import OPTIONS, parameter, randn, same_bits
from torch import Tensor
from torch.autograd import gradcheck

from fused_warmup import SGD, linear_warmup


def step(p: Tensor, grad: Tensor, buffer: Tensor | None, **options: Any) -> tuple[Tensor, ...]:
    """One step as a function of all that goes into it."""
    p = p.clone()
    p.grad = grad
    opt = SGD([p], differentiable=True, **options)
    if buffer is not None:
        opt.state[p]["momentum_buffer"] = buffer = buffer.clone()
    opt.step()
    assert opt.steps_applied == 1
    return (p,) if buffer is None else (p, buffer)


def double(seed: int) -> Tensor:
    return randn(6, seed=seed, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("schedule", [None, linear_warmup(4, start=0.5)], ids=["none", "warmup"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_of_a_step(options: dict[str, Any], schedule: Any) -> None:
    buffer = double(3) if options["momentum"] else None

    def function(p: Tensor, grad: Tensor, buffer: Tensor | None) -> tuple[Tensor, ...]:
        return step(p, grad, buffer, lr=0.9, schedule=schedule, **options)

    assert gradcheck(function, (double(1), double(2), buffer))


@pytest.mark.parametrize("schedule", [None, linear_warmup(4, start=0.5)], ids=["none", "warmup"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradients_of_rate_and_decay(momentum: float, schedule: Any) -> None:
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    weight_decay = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    def function(p: Tensor, grad: Tensor, lr: Tensor, weight_decay: Tensor) -> tuple[Tensor, ...]:
        options = {"momentum": momentum, "weight_decay": weight_decay, "schedule": schedule}
        return step(p, grad, None, lr=lr, **options)

    assert gradcheck(function, (double(1), double(2), lr, weight_decay))


def test_the_rate_learns_through_several_steps() -> None:
    """The hypergradient of a quadratic: d loss / d lr by autograd and by its formula."""
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    p = torch.tensor([2.0], dtype=torch.float64, requires_grad=True).clone()
    opt = SGD([p], lr=lr, differentiable=True)
    for _ in range(3):
        p.grad = p.clone()  # of p^2 / 2
        opt.step()
    p.sum().backward()
    # p = 2 (1 - lr)^3
    assert p.item() == pytest.approx(2 * 0.9**3)
    assert lr.grad.item() == pytest.approx(-6 * 0.9**2)
    assert opt.get_last_lr() == [0.1]


def test_the_same_numbers_as_without() -> None:
    for options in OPTIONS:
        values = []
        for differentiable in (True, False):
            p = parameter(randn(9, seed=1))
            q = p.clone() if differentiable else p
            opt = SGD([q], lr=0.1, differentiable=differentiable, **options)
            for i in range(3):
                q.grad = randn(9, seed=i)
                opt.step()
            values.append(q)
        assert same_bits(*values)
        assert values[0].requires_grad


def test_only_the_reference_can() -> None:
    with pytest.raises(ValueError, match="only the reference backend") as caught:
        SGD([parameter(torch.ones(1))], differentiable=True, backend="cpu")
    assert "backend='cpu'" in str(caught.value)
    SGD([parameter(torch.ones(1))], differentiable=True, backend="reference")


def test_one_group_may_be_differentiable_and_another_native() -> None:
    lr = torch.tensor(0.5, requires_grad=True)
    p, q = parameter(torch.ones(2)).clone(), parameter(torch.ones(2))
    groups = [{"params": [p], "differentiable": True, "lr": lr}, {"params": [q]}]
    opt = SGD(groups, lr=0.25, differentiable=True)
    opt.param_groups[1]["differentiable"] = False
    for _ in range(2):
        p.grad, q.grad = torch.ones(2), torch.ones(2)
        opt.step()
    assert p.tolist() == [0.0, 0.0]
    assert q.tolist() == [0.5, 0.5]
    p.sum().backward()
    assert lr.grad.item() == -4.0
    assert q.grad_fn is None
    assert opt.get_last_lr() == [0.5, 0.25]
