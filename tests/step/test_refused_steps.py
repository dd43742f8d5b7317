"""A step that one tensor or group spoils moves none of the others, and the next one is right.

The spoilt one is the last, so that whoever goes by the order has moved the others before.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import models, nothing_moves, parameter, same_bits, set_grads, train
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fused_warmup import SGD, clip_grad_norm_, linear_warmup

SHAPES = ((5, 3), (70,), (2, 2), (4, 4))
BACKENDS = [None, "cpu", "reference"]
OPTIONS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}

Spoil = Callable[[SGD, list[Tensor]], Callable[[], object]]
"""Spoils an optimizer and returns what mends it."""


def trained(backend: str | None, kind: Any = parameter, **options: Any) -> tuple[SGD, list[Tensor]]:
    params = models(*SHAPES)
    params[-1] = kind(params[-1].detach())
    options = {**OPTIONS, "schedule": linear_warmup(4, 0.1), **options}
    opt = SGD([{"params": params[:2]}, {"params": params[2:]}], backend=backend, **options)
    train(opt, 2)
    set_grads(params, 2)
    return opt, params


def inference(value: Tensor) -> Tensor:
    with torch.inference_mode():
        return value.clone()


def option(name: str, value: Any) -> Spoil:
    def spoil(opt: SGD, params: list[Tensor]) -> Callable[[], object]:
        group = opt.param_groups[-1]
        old, group[name] = group[name], value
        return lambda: group.update({name: old})

    return spoil


def loaded_option(name: str, value: Any) -> Spoil:
    """As `option`, through a checkpoint: loading takes what a step then refuses."""

    def spoil(opt: SGD, params: list[Tensor]) -> Callable[[], object]:
        state_dict = opt.state_dict()
        old = state_dict["param_groups"][-1][name]
        state_dict["param_groups"][-1][name] = value
        opt.load_state_dict(state_dict)
        return lambda: opt.param_groups[-1].update({name: old})

    return spoil


def gradient(make: Callable[[Tensor], Any]) -> Spoil:
    def spoil(opt: SGD, params: list[Tensor]) -> Callable[[], object]:
        old = params[-1].grad
        with torch.no_grad():
            spoilt = make(old.clone())
        kept = params[-1].data
        if spoilt.shape != old.shape:
            params[-1].grad = None
            params[-1].data = torch.empty(spoilt.shape)
        params[-1].grad_dtype = None
        params[-1].grad = spoilt
        params[-1].data = kept

        def mend() -> None:
            params[-1].grad = old

        return mend

    return spoil


def data(make: Callable[[Tensor], Tensor]) -> Spoil:
    def spoil(opt: SGD, params: list[Tensor]) -> Callable[[], object]:
        old = params[-1].data
        params[-1].data = make(old)
        return lambda: setattr(params[-1], "data", old)

    return spoil


def entry(name: str, make: Callable[[Tensor], Any]) -> Spoil:
    def spoil(opt: SGD, params: list[Tensor]) -> Callable[[], object]:
        state = opt.state[params[-1]]
        old, state[name] = state[name], make(state[name])
        return lambda: state.update({name: old})

    return spoil


def two_counts(opt: SGD, params: list[Tensor]) -> Callable[[], object]:
    old = [opt.state[p]["step"] for p in params]
    for p, count in zip(params[-2:], (7, 8), strict=True):
        opt.state[p]["step"] = torch.tensor(count)

    def mend() -> None:
        for p, step in zip(params, old, strict=True):
            opt.state[p]["step"] = step

    return mend


def in_scaled_step(spoil: Spoil, **scalars: Any) -> Spoil:
    """With AMP's scalars: what a refused step has unscaled already would be unscaled again."""

    def both(opt: SGD, params: list[Tensor]) -> Callable[[], object]:
        opt.grad_scale, opt.found_inf = torch.tensor(1.0), torch.tensor(0.0)
        for name, value in scalars.items():
            setattr(opt, name, value)
        mend = spoil(opt, params)

        def undo() -> None:
            mend()
            del opt.grad_scale, opt.found_inf

        return undo

    return both


def nothing(opt: SGD, params: list[Tensor]) -> Callable[[], object]:
    return lambda: None


WRONG = (TypeError, ValueError, RuntimeError)

SPOILT: dict[str, tuple[Spoil, str]] = {
    "differentiable": (option("differentiable", True), "differentiable=False"),
    "differentiable loaded": (loaded_option("differentiable", True), "differentiable=False"),
    "lr that is a pair": (option("lr", torch.ones(2)), "1-element"),
    "lr of int": (option("lr", torch.tensor(1)), "floating dtype"),
    "lr not finite": (option("lr", torch.tensor(math.nan)), "learning rate"),
    "lr as text": (option("lr", "0.1"), "must be a number"),
    "momentum not finite": (option("momentum", math.inf), "momentum"),
    "no schedule": (option("schedule", {"segments": [], "steps": 3}), "schedule"),
    "gradient of another shape": (gradient(lambda g: g.reshape(16)), r"shape \(16,\)"),
    "gradient with a dimension more": (gradient(lambda g: g[None]), r"shape \(1, 4, 4\)"),
    "complex gradient": (gradient(lambda g: g.to(torch.complex64)), "complex64"),
    "inference gradient under AMP": (
        in_scaled_step(gradient(inference)),
        "inference",
    ),
    "parameter of another shape": (data(lambda d: d.reshape(2, 8)), "shape"),
    "expanded parameter": (data(lambda d: torch.ones(()).expand(4, 4)), "strides"),
    "parameter of another dtype": (data(lambda d: d.double()), "float64"),
    "momentum of another shape": (entry("momentum_buffer", lambda b: b[:2]), "momentum_buffer"),
    "momentum of inference": (entry("momentum_buffer", inference), "inference"),
    "momentum that is a number": (entry("momentum_buffer", lambda b: 0.5), "momentum_buffer"),
    "mark that is a number": (entry("first_step", lambda m: 2), "first_step"),
    "counts that differ": (two_counts, "step counts"),
    "count as text": (entry("step", lambda t: "two"), "step"),
    "grad_scale that is a pair": (
        in_scaled_step(nothing, grad_scale=torch.ones(2)),
        "grad_scale",
    ),
    "grad_scale as text": (in_scaled_step(nothing, grad_scale="1"), "grad_scale"),
    "found_inf that is a pair": (in_scaled_step(nothing, found_inf=torch.zeros(2)), "found_inf"),
    "found_inf as text": (in_scaled_step(nothing, found_inf="0"), "found_inf"),
}


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("name", SPOILT)
def test_a_refused_step_changes_nothing(name: str, backend: str | None) -> None:
    spoil, words = SPOILT[name]
    opt, params = trained(backend)
    twin, theirs = trained(backend)
    mend = spoil(opt, params)
    before = [(p, p.detach().clone(), p.grad) for p in params[:-1]]
    grads = [p.grad.clone() for p in params[:-1]]
    momenta = [opt.state[p]["momentum_buffer"].clone() for p in params[:-1]]
    for _ in range(2):
        with pytest.raises(WRONG, match=words):
            opt.step()
    for (p, value, grad), old, momentum in zip(before, grads, momenta, strict=True):
        assert same_bits(p, value)
        assert p.grad is grad
        assert same_bits(grad, old)
        assert same_bits(opt.state[p]["momentum_buffer"], momentum)
    mend()
    assert opt.steps_applied == 2
    for step in range(3):
        opt.step()
        twin.step()
        assert all(map(same_bits, params, theirs))
        set_grads(params, 3 + step)
        set_grads(theirs, 3 + step)
    assert opt.steps_applied == twin.steps_applied == 5


class Raising(torch.nn.Parameter):
    """A parameter whose gradient raises while asked to."""

    error: BaseException | None = None

    @property
    def grad(self) -> Tensor | None:
        if self.error is not None:
            raise self.error
        return torch.Tensor.grad.__get__(self)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        torch.Tensor.grad.__set__(self, value)


@pytest.mark.parametrize("backend", [None, "reference"], ids=str)
@pytest.mark.parametrize("error", [AttributeError, RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_gradient_that_raises(error: type[BaseException], backend: str | None) -> None:
    opt, params = trained(backend, kind=Raising)
    params[-1].error = error("not now")
    with pytest.raises(error, match="not now"):
        opt.step()
    params[-1].error = None
    with nothing_moves(opt):
        params[-1].error = error("nor now")
        with pytest.raises(error, match="nor now"):
            opt.step()
        params[-1].error = None
    assert opt.steps_applied == 2
    opt.step()
    assert opt.steps_applied == 3


class Number(float):
    """An option that raises when it is made a plain number."""

    def __float__(self) -> float:
        raise ArithmeticError("no number today")

    __index__ = __bool__ = __float__  # type: ignore[assignment]


@pytest.mark.parametrize("backend", [None, "reference"], ids=str)
@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "dampening", "nesterov"])
def test_an_option_that_raises(name: str, backend: str | None) -> None:
    """It may be read as the float that it also is; if not, nothing has moved."""
    opt, params = trained(backend)
    old = opt.param_groups[-1][name]
    opt.param_groups[-1][name] = Number(old)
    before = [p.detach().clone() for p in params]
    try:
        opt.step()
    except (ArithmeticError, *WRONG):
        assert all(map(same_bits, params, before))
        opt.param_groups[-1][name] = old
        assert opt.steps_applied == 2
        opt.step()
    assert opt.steps_applied == 3


@pytest.mark.parametrize("backend", [None, "reference"], ids=str)
@pytest.mark.parametrize("where", ["closure", "hook", "global hook"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_code_before_the_step_that_raises(
    where: str, error: type[BaseException], backend: str | None
) -> None:
    opt, _ = trained(backend)

    def stop(*_: Any) -> None:
        raise error("stop")

    handle = None
    if where == "hook":
        handle = opt.register_step_pre_hook(stop)
    elif where == "global hook":
        handle = register_optimizer_step_pre_hook(stop)
    with nothing_moves(opt), pytest.raises(error, match="stop"):
        opt.step(stop if where == "closure" else None)
    if handle is not None:
        handle.remove()
    opt.step()
    assert opt.steps_applied == 3


@pytest.mark.parametrize("backend", [None, "reference"], ids=str)
def test_a_clip_outlives_a_refused_step(backend: str | None) -> None:
    """The step after it divides by the norm that was asked for, once."""
    results = []
    for refuse in (True, False):
        opt, params = trained(backend)
        clip_grad_norm_(opt, 0.01)
        if refuse:
            mend = option("momentum", math.inf)(opt, params)
            with pytest.raises(ValueError, match="momentum"):
                opt.step()
            mend()
        for step in range(2):
            opt.step()
            set_grads(params, 5 + step)
        results.append(params)
    assert all(map(same_bits, *results))
