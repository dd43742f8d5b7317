"""What PyTorch asks of its own SGD, asked of this one with PyTorch's own lists of options.

The checks are those of torch's test/test_optim.py that apply to SGD on a CPU.
"""

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings
from support import copies, parameter, randn, same_bits, set_grads, train
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fused_warmup import SGD

pytest.importorskip("expecttest", reason="torch.testing._internal needs expecttest")
settings.register_profile("ours", settings.default)
from torch.testing._internal.common_optimizers import (  # noqa: E402
    OptimizerErrorEnum,
    optim_db,
    optim_error_inputs_func_sgd,
    optim_inputs_func_sgd,
)

settings.load_profile("ours")  # torch's module has just loaded a profile of its own

SGD_INFO = next(info for info in optim_db if info.optim_cls is torch.optim.SGD)
INPUTS = optim_inputs_func_sgd(device="cpu")
FLAGS: list[dict[str, Any]] = [{}, {"foreach": True}, {"foreach": False}, {"fused": True}]


def options_of(each: Any) -> dict[str, Any]:
    return copy.deepcopy(each.kwargs)


every_input = pytest.mark.parametrize("given", INPUTS, ids=lambda each: each.desc)
every_flag = pytest.mark.parametrize("flags", FLAGS, ids=str)


def regression(weight: Tensor, bias: Tensor) -> Callable[[], Tensor]:
    """A closure as torch's tests use it: the squared error of a linear layer."""
    x = randn(weight.shape[1], seed=99, dtype=weight.dtype)

    def closure() -> Tensor:
        weight.grad = bias.grad = None
        loss = (weight.mv(x) + bias).pow(2).sum()
        loss.backward()
        return loss

    return closure


def layer(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return parameter(randn(10, 5, seed=1, dtype=dtype)), parameter(randn(10, seed=2, dtype=dtype))


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("schedulers", SGD_INFO.scheduler_inputs, ids=lambda s: f"{len(s)}")
@every_input
def test_goes_in_the_right_direction(given, schedulers, contiguous) -> None:
    options = options_of(given)
    if contiguous:
        weight, bias = layer()
    else:
        weight = parameter(randn(10, 5, 2, seed=1)[..., 0])
        bias = parameter(randn(10, 2, seed=2)[..., 0])
    opt = SGD([weight, bias], **options)
    wrapped = [make(opt) for make in schedulers]
    closure = regression(weight, bias)
    first = closure().item()
    for _ in range(20):
        for scheduler in wrapped:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(closure().detach())
            else:
                opt._opt_called = True  # the order that torch's own test takes
                scheduler.step()
        assert opt.step(closure).item() >= 0
    last = closure().item()
    assert last > first if options.get("maximize") else last < first
    assert repr(opt)


@every_flag
@every_input
def test_is_torchs_trajectory(given, flags) -> None:
    mine, theirs = layer(), layer()
    ours = SGD(mine, **options_of(given), **flags)
    torchs = torch.optim.SGD(theirs, **options_of(given), foreach=False)
    for a, b in zip(train(ours, 5), train(torchs, 5), strict=True):
        assert all(map(same_bits, a, b))


@every_input
def test_tensor_lr(given) -> None:
    options = options_of(given)
    if isinstance(options.get("lr"), Tensor):
        assert SGD(layer(), **options).param_groups[0]["lr"] is options["lr"]
        options["lr"] = torch.tensor([0.001, 0.001])
        with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
            SGD(layer(), **options)
    else:
        options["lr"] = torch.tensor(options.get("lr", 1e-3), dtype=torch.float64)
        mine, theirs = layer(), layer()
        ours, torchs = SGD(mine, **options), torch.optim.SGD(theirs, foreach=False, **options)
        assert all(map(same_bits, train(ours, 4)[-1], train(torchs, 4)[-1]))


def test_error_inputs() -> None:
    inputs = optim_error_inputs_func_sgd(device="cpu", dtype=torch.float32)
    assert len(inputs) >= 4
    for each in inputs:
        assert each.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
        wrong = each.optimizer_error_input
        with pytest.raises(each.error_type, match=each.error_regex):
            SGD(wrong.params, **wrong.kwargs)


def test_signature_begins_with_torchs() -> None:
    ours, torchs = (inspect.signature(cls).parameters for cls in (SGD, torch.optim.SGD))
    assert list(ours)[: len(torchs)] == list(torchs)
    for name, parameter_ in torchs.items():
        assert (ours[name].default, ours[name].kind) == (parameter_.default, parameter_.kind)


@every_input
def test_complex_parameters_move_as_pairs_of_reals(given) -> None:
    z = randn(4, 3, 2, seed=1)
    complex_ = parameter(torch.view_as_complex(z.clone()))
    real = parameter(z.clone())
    one, other = SGD([complex_], **options_of(given)), SGD([real], **options_of(given))
    for step in range(4):
        grad = randn(4, 3, 2, seed=10 + step)
        complex_.grad, real.grad = torch.view_as_complex(grad), grad
        one.step()
        other.step()
    # Complex kernels multiply by a real as by a complex number, so the last bits may differ.
    torch.testing.assert_close(torch.view_as_real(complex_), real, rtol=1e-6, atol=1e-6)
    assert not torch.equal(real, z)


def test_groups_override_defaults() -> None:
    for name, expected in (("lr", 0.5), ("weight_decay", 0.25)):
        weight, bias = parameter(torch.ones(2)), parameter(torch.ones(2))
        groups = [{"params": [weight]}, {"params": bias, name: 0.5}]
        opt = SGD(groups, **{"lr": 0.5, "weight_decay": 0.0, name: 0.0})
        for p in (weight, bias):
            p.grad = torch.full((2,), float(name == "lr"))
        opt.step()
        assert weight.tolist() == [1.0, 1.0]
        assert bias.tolist() == [1.0 - expected] * 2


@every_input
def test_no_gradient_is_no_step_and_a_zero_one_without_decay_moves_nothing(given) -> None:
    weight, bias = layer()
    opt = SGD([weight, bias], **options_of(given))
    before = copies([weight, bias])
    opt.step()
    assert opt.steps_applied == 0
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    opt.step()
    assert opt.steps_applied == 1
    still = all(map(torch.equal, [weight, bias], before))
    assert still == (not opt.defaults["weight_decay"])


@every_input
def test_late_unfrozen_parameters_step(given) -> None:
    """Torch's fused SGD raises here; its others do as this."""
    results = []
    for cls, more in ((SGD, {}), (torch.optim.SGD, {"foreach": False})):
        weight, bias = layer()
        bias.requires_grad_(False)
        opt = cls([weight, bias], **options_of(given), **more)
        for step in range(2):
            set_grads([weight], step)
            opt.step()
        frozen = bias.clone()
        assert torch.equal(bias, frozen)
        bias.requires_grad_(True)
        train(opt, 3, first=2)
        assert not torch.equal(bias, frozen)
        results.append([weight, bias])
    assert all(map(same_bits, *results))


@every_input
def test_pickle_and_deepcopy_go_on_alike(given) -> None:
    weight, bias = layer()
    opt = SGD([weight, bias], **options_of(given), unscale=False, backend="reference")
    train(opt, 3)
    twins = [pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt)]
    expected = train(opt, 3, first=3)[-1]
    for twin in twins:
        assert twin.param_groups[0]["params"][0] is not weight
        public = {k for k in vars(opt) if not k.startswith("_")}
        assert public == {k for k in vars(twin) if not k.startswith("_")}
        assert (twin.steps_applied, twin.backend) == (3, "reference")
        assert twin._step_supports_amp_scaling is False
        assert all(map(same_bits, train(twin, 3, first=3)[-1], expected))
        assert twin.steps_applied == 6
    assert copy.deepcopy(SGD(layer()))._step_supports_amp_scaling is True


def test_named_parameters_keep_their_names() -> None:
    model = torch.nn.Linear(2, 3)
    opt = SGD(model.named_parameters(), lr=0.1)
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    names = opt.state_dict()["param_groups"][0]["param_names"]
    assert names == ["weight", "bias"]
    with pytest.raises(ValueError, match="with/without names"):
        SGD([("a", parameter(torch.ones(1))), parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="all optimizer param groups should be with/without names"):
        opt.add_param_group({"params": [parameter(torch.ones(1))]})
    assert len(opt.param_groups) == 1


def test_closure_runs_once_with_gradients_enabled() -> None:
    weight, bias = layer()
    opt = SGD([weight, bias], lr=0.01)
    closure, calls = regression(weight, bias), []

    def counted() -> Tensor:
        calls.append(torch.is_grad_enabled())
        return closure()

    with torch.no_grad():
        loss = opt.step(counted)
        assert opt.step(closure=counted) < loss
    assert calls == [True, True]
    assert opt.step() is None


@pytest.mark.parametrize("flags", [{"foreach": True}, {}])
def test_fused_goes_with_no_rival(flags) -> None:
    rival = flags or {"differentiable": True}
    with pytest.raises(RuntimeError, match="`fused`"):
        SGD(layer(), fused=True, **rival)
