"""Steps under torch.amp.GradScaler: what overflowed moves nothing, what did not is unscaled."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import copies, models, nothing_moves, parameter, randn, same_bits, set_grads, train
from torch import Tensor
from torch.amp import GradScaler

from fused_warmup import SGD, linear_warmup

OPTIONS = {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}
BACKENDS = ["cpu", "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
SHAPES = ((5, 3), (70,), ())


def make(backend: str | None = None, **options: Any) -> SGD:
    options = {"schedule": linear_warmup(4, start=0.1), **OPTIONS, **options}
    return SGD(models(*SHAPES), lr=0.5, backend=backend, **options)


def params_of(opt: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in opt.param_groups for p in group["params"]]


def scaled_step(opt: SGD, step: int, scale: float = 8.0, found_inf: Any = 0.0) -> None:
    """What GradScaler does around a step that unscales for itself."""
    set_grads(params_of(opt), step)
    for p in params_of(opt):
        p.grad.mul_(scale)
    opt.grad_scale = torch.tensor(scale)
    opt.found_inf = torch.tensor(found_inf) if isinstance(found_inf, float) else found_inf
    opt.step()
    del opt.grad_scale, opt.found_inf


@every_backend
@pytest.mark.parametrize("found_inf", [1.0, 2.0, 7.0, float("inf")])
@pytest.mark.parametrize("skipped_at", [0, 1, 3])
def test_overflow_moves_nothing(backend: str, found_inf: float, skipped_at: int) -> None:
    """The next applied step is the one that would have come: t, rates and first-step marks."""
    opt, undisturbed = make(backend), make(backend)
    for step in range(skipped_at):
        scaled_step(opt, step)
    for _ in range(2):
        set_grads(params_of(opt), 55)
        params_of(opt)[0].grad.fill_(torch.inf)
        opt.grad_scale, opt.found_inf = torch.tensor(8.0), torch.tensor(found_inf)
        with nothing_moves(opt):
            opt.step()
        del opt.grad_scale, opt.found_inf
    for step in range(skipped_at, 6):
        scaled_step(opt, step)
    for step in range(6):
        scaled_step(undisturbed, step)
    assert opt.steps_applied == 6
    assert all(map(same_bits, params_of(opt), params_of(undisturbed)))
    assert opt.get_last_lr() == undisturbed.get_last_lr()


@every_backend
def test_unscaling_by_a_power_of_two_is_as_if_there_were_no_scale(backend: str) -> None:
    opt, plain = make(backend), make(backend)
    for step in range(5):
        scaled_step(opt, step, scale=2.0**16)
        train(plain, 1, first=step)
        for p, q in zip(params_of(opt), params_of(plain), strict=True):
            assert same_bits(p.grad, q.grad)  # written back unscaled
            assert same_bits(p, q)


@every_backend
def test_unscaling_rounds_as_the_scaler_does(backend: str) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        values = randn(1000, seed=4).to(dtype)
        p, q = parameter(torch.zeros(1000, dtype=dtype)), parameter(torch.zeros(1000, dtype=dtype))
        p.grad, q.grad = values.clone(), values.clone()
        scaler = GradScaler("cpu", init_scale=3.0)
        scaler.scale(torch.ones(()))
        scaler.unscale_(torch.optim.SGD([q]))
        opt = SGD([p], lr=0.1, backend=backend)
        opt.grad_scale, opt.found_inf = torch.tensor(3.0), torch.tensor(0.0)
        opt.step()
        assert same_bits(p.grad, q.grad)


Train = Callable[[SGD | torch.optim.SGD, int], list[list[Tensor]]]


def with_scaler(opt: Any, steps: int, *, unscale_first: bool = False) -> list[list[Tensor]]:
    """Train with a real GradScaler; steps 0, 1 and 4 overflow."""
    scaler = GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    params, history = params_of(opt), []
    for step in range(steps):
        opt.zero_grad()
        factor = torch.inf if step in (0, 1, 4) else 1.0
        loss = sum((p * randn(*p.shape, seed=100 * step + i)).sum() for i, p in enumerate(params))
        scaler.scale(loss * factor).backward()
        if unscale_first:
            scaler.unscale_(opt)
            torch.nn.utils.clip_grad_norm_(params, 1.0)
        scaler.step(opt)
        scaler.update()
        history.append(copies([p.grad for p in params]) + copies(params))
    return history


@pytest.mark.parametrize("unscale_first", [False, True])
@pytest.mark.parametrize("unscale", [True, False])
@pytest.mark.parametrize("backend", [None, "reference"])
def test_real_scaler_is_as_with_torch_sgd(backend, unscale, unscale_first) -> None:
    ours = make(backend, schedule=None, unscale=unscale)
    torchs = torch.optim.SGD(models(*SHAPES), lr=0.5, foreach=False, **OPTIONS)
    mine = with_scaler(ours, 9, unscale_first=unscale_first)
    theirs = with_scaler(torchs, 9, unscale_first=unscale_first)
    for step, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        if step in (0, 1, 4):  # torch leaves infinities unscaled or not as it pleases
            a, b = a[len(SHAPES) :], b[len(SHAPES) :]
        assert all(map(same_bits, a, b))
    assert ours.steps_applied == 6
    assert not hasattr(ours, "grad_scale")


def test_real_scaler_does_not_advance_the_schedule() -> None:
    opt, rates = make(), []
    scaler = GradScaler("cpu", init_scale=2.0)
    for step in range(6):
        loss = (params_of(opt)[0] * (torch.inf if step % 2 == 0 else 1.0)).sum()
        opt.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        rates += opt.get_last_lr()
    warmup = linear_warmup(4, start=0.1)
    expected = [0.5 * warmup(t) for t in (0, 0, 0, 1, 1, 2)]
    assert rates == expected


def test_first_step_overflow_leaves_a_momentum_that_is_no_nan() -> None:
    """Torch's fused SGD allocates its momentum uninitialised and skips: NaN later on."""
    for backend in BACKENDS:
        opt = make(backend, dampening=0, schedule=None)
        scaled_step(opt, 0, found_inf=1.0)
        for p in params_of(opt):
            assert torch.equal(opt.state[p]["momentum_buffer"], torch.zeros_like(p))
        scaled_step(opt, 0)
        for p in params_of(opt):
            d = p.grad + 0.01 * p.detach()
            torch.testing.assert_close(opt.state[p]["momentum_buffer"], d, rtol=0.02, atol=0.02)


@every_backend
def test_found_inf_may_be_a_number(backend: str) -> None:
    """The scaler's sum over no devices is the int 0."""
    opt = make(backend)
    opt.grad_scale, opt.found_inf = torch.tensor(4.0), 0
    with nothing_moves(opt):
        opt.step()  # no gradients at all
    set_grads(params_of(opt), 1)
    opt.step()
    assert opt.steps_applied == 1
    opt.found_inf = 2
    with nothing_moves(opt):
        opt.step()


@every_backend
@pytest.mark.parametrize("skip", [False, True])
def test_grad_scale_none_with_found_inf(backend: str, skip: bool) -> None:
    """After unscale_() the scaler passes no scale; gradients stay as they are."""
    opt, plain = make(backend), make(backend)
    set_grads(params_of(opt), 1)
    opt.grad_scale, opt.found_inf = None, torch.tensor(float(skip))
    before = copies([p.grad for p in params_of(opt)])
    opt.step()
    assert all(map(same_bits, [p.grad for p in params_of(opt)], before))
    if not skip:
        train(plain, 1, first=1)
    assert all(map(same_bits, params_of(opt), params_of(plain)))
    assert opt.steps_applied == (not skip)


@every_backend
@pytest.mark.parametrize("preset", [2.0, torch.tensor(2.0), torch.tensor([2.0]).double()], ids=str)
def test_grad_scale_that_the_user_has_set(backend: str, preset: Any) -> None:
    """The scaler multiplies a scale that is there already by its own."""
    opt, plain = make(backend), make(backend)
    for step in range(2):
        set_grads(params_of(opt), step)
        loss = sum((p * p.grad).sum() for p in params_of(opt)) * preset
        opt.zero_grad()
        scaler = GradScaler("cpu", init_scale=4.0)
        scaler.scale(loss.sum()).backward()
        opt.grad_scale = preset
        scaler.step(opt)
        train(plain, 1, first=step)
    assert all(map(same_bits, params_of(opt), params_of(plain)))
    # And where nothing but the user's own is set:
    train(plain, 1, first=2)
    set_grads(params_of(opt), 2)
    for p in params_of(opt):
        p.grad.mul_(2)
    opt.grad_scale = preset
    opt.step()
    assert all(map(same_bits, params_of(opt), params_of(plain)))


def test_what_the_scaler_asks_survives_pickle_and_deepcopy() -> None:
    for unscale in (True, False):
        opt = make(unscale=unscale)
        for each in (opt, pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt)):
            assert each._step_supports_amp_scaling is unscale
    opt._step_supports_amp_scaling = True  # as frameworks set it, on an object of torch's
    assert copy.deepcopy(opt)._step_supports_amp_scaling is True


@every_backend
def test_unscaling_is_seen_by_autograd(backend: str) -> None:
    """A graph that saved a gradient must notice that the step has changed it."""
    p, other = parameter(torch.ones(3)), parameter(torch.ones(3))
    opt = SGD([p], lr=0.1, backend=backend)
    for skip in (0.0, 0.0, 1.0):
        p.grad = other * 2
        loss = p.grad.pow(2).sum()
        opt.grad_scale, opt.found_inf = torch.tensor(2.0), torch.tensor(skip)
        opt.step()
        if skip:
            loss.backward()
        else:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()


@pytest.mark.parametrize("backend", [None, "reference"])
def test_gradients_may_be_left_scaled(backend: str | None) -> None:
    results = []
    for write_grads in (True, False):
        opt = make(backend, write_grads=write_grads)
        params = opt.param_groups[0]["params"]
        set_grads(params, 0)
        scaled = copies([p.grad for p in params])
        opt.grad_scale, opt.found_inf = torch.tensor(8.0), torch.tensor(0.0)
        opt.step()
        left = [p.grad if write_grads else p.grad / 8 for p in params]
        assert all(map(same_bits, left, [g / 8 for g in scaled]))
        results.append(copies(params))
    assert all(map(same_bits, *results))
    assert not pickle.loads(pickle.dumps(opt)).write_grads
