"""clip_grad_norm_: what torch's unscale_, clip_grad_norm_ and step do, in the step."""

from typing import Any

import pytest
import torch
from support import copies, models, nothing_moves, parameter, randn, refused, same_bits, set_grads
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import utils

from fused_warmup import SGD, clip_grad_norm_, linear_warmup
from fused_warmup.distributed import StepInBackward

OPTIONS: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
SHAPES = ((33,), (4, 5), (1025,))
BACKENDS = ["cpu", "reference"]
ORDERS = [2.0, 1.0, 3.5, float("inf")]


def params_of(opt: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in opt.param_groups for p in group["params"]]


def pair(dtype: torch.dtype = torch.float32, **options: Any) -> tuple[SGD, torch.optim.SGD]:
    ours = SGD(models(*SHAPES, dtype=dtype), **OPTIONS, **options)
    return ours, torch.optim.SGD(models(*SHAPES, dtype=dtype), foreach=False, **OPTIONS)


def close(mine: Any, theirs: Any) -> None:
    """One float32 rounding of the factor a step, and what it makes of a few steps."""
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_torchs_clipping(dtype: torch.dtype, backend: str, order: float) -> None:
    ours, theirs = pair(dtype, backend=backend)
    for step in range(4):
        for opt in (ours, theirs):
            set_grads(params_of(opt), step)
        found = clip_grad_norm_(ours, 0.5, order)
        expected = utils.clip_grad_norm_(params_of(theirs), 0.5, order)
        assert same_bits(found, expected)
        assert expected > 0.5
        ours.step()
        theirs.step()
        close(params_of(ours), params_of(theirs))
        close((p.grad for p in params_of(ours)), (p.grad for p in params_of(theirs)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_below_the_bound_nothing_changes(backend: str) -> None:
    ours, theirs = pair(backend=backend)
    for step in range(3):
        for opt in (ours, theirs):
            set_grads(params_of(opt), step)
        clip_grad_norm_(ours, 1e6)
        ours.step()
        theirs.step()
        assert all(map(same_bits, params_of(ours), params_of(theirs)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_norms_are_float32(dtype: torch.dtype) -> None:
    """A sum of squares of float16 would overflow from 256 on."""
    params = [parameter(randn(n, seed=n).to(dtype)) for n in (300, 5)]
    for p in params:
        p.grad = torch.full_like(p, 300.0)
    opt = SGD(params, lr=0.125)
    before = copies(params)
    norm = clip_grad_norm_(opt, 1.0)
    assert norm.dtype == torch.float32
    torch.testing.assert_close(norm, torch.tensor(300.0 * 305**0.5))
    opt.step()
    for p, old in zip(params, before, strict=True):
        torch.testing.assert_close(p, (old.float() - 0.125 / 305**0.5).to(dtype))


def test_mixed_dtypes_have_one_norm() -> None:
    params = [parameter(randn(7, seed=1, dtype=d)) for d in (torch.bfloat16, torch.float64)]
    for p, value in zip(params, (3.0, 4.0), strict=True):
        p.grad = torch.zeros_like(p)
        p.grad[0] = value
    assert float(clip_grad_norm_(SGD(params, lr=0.1), 1.0)) == 5.0


def scaled(opt: torch.optim.Optimizer, scaler: GradScaler, step: int, overflow: bool) -> None:
    """Gradients as a backward of a scaled loss would leave them."""
    set_grads(params_of(opt), step)
    scale = scaler.scale(torch.ones(()))
    for p in params_of(opt):
        assert p.grad is not None
        p.grad.mul_(scale)
    if overflow:
        params_of(opt)[1].grad[0, 0] = torch.inf


@pytest.mark.parametrize("write_grads", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradscaler_unscales_clips_and_skips_as_with_torch(backend: str, write_grads: bool) -> None:
    """The same parameters, scales and skips; the schedule counts what was applied."""
    schedule = linear_warmup(6, start=0.5)
    ours, theirs = pair(backend=backend, schedule=schedule, write_grads=write_grads)
    mine, other = (
        GradScaler("cpu", init_scale=2.0**10, growth_interval=3, backoff_factor=0.25) for _ in "12"
    )
    applied = 0
    for step in range(9):
        overflow = step in (0, 4, 5)
        scaled(ours, mine, step, overflow)
        scaled(theirs, other, step, overflow)
        found = clip_grad_norm_(ours, 0.5, scaler=mine)
        mine.step(ours)
        mine.update()
        theirs.param_groups[0]["lr"] = 0.1 * schedule(applied)
        other.unscale_(theirs)
        expected = utils.clip_grad_norm_(params_of(theirs), 0.5)
        other.step(theirs)
        other.update()
        applied += not overflow
        assert found.isfinite() == (not overflow)
        if not overflow:
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
            if write_grads:
                close((p.grad for p in params_of(ours)), (p.grad for p in params_of(theirs)))
        assert ours.steps_applied == applied
        assert mine.get_scale() == other.get_scale()
        close(params_of(ours), params_of(theirs))


def test_gradients_are_read_only_until_the_step() -> None:
    opt, _ = pair(write_grads=False)
    scaler = GradScaler("cpu", init_scale=8.0)
    scaled(opt, scaler, 0, overflow=False)
    before = copies([p.grad for p in params_of(opt)])  # type: ignore[misc]
    with nothing_moves(opt):
        clip_grad_norm_(opt, 0.5, scaler=scaler)
    scaler.step(opt)
    assert all(same_bits(p.grad, g) for p, g in zip(params_of(opt), before, strict=True))


def test_unscaled_already() -> None:
    """scaler.unscale_ came first, to look at gradients, say: they are not unscaled again."""
    ours, theirs = pair()
    scalers = [GradScaler("cpu", init_scale=8.0) for _ in "12"]
    for opt, scaler in zip((ours, theirs), scalers, strict=True):
        scaled(opt, scaler, 0, overflow=False)
        scaler.unscale_(opt)
    found = clip_grad_norm_(ours, 0.5, scaler=scalers[0])
    expected = utils.clip_grad_norm_(params_of(theirs), 0.5)
    assert same_bits(found, expected)
    for opt, scaler in zip((ours, theirs), scalers, strict=True):
        scaler.step(opt)
        scaler.update()
    close(params_of(ours), params_of(theirs))


def test_a_scaler_that_is_off() -> None:
    ours, theirs = pair()
    for opt in (ours, theirs):
        set_grads(params_of(opt), 0)
    clip_grad_norm_(ours, 0.5, scaler=GradScaler("cpu", enabled=False))
    utils.clip_grad_norm_(params_of(theirs), 0.5)
    ours.step()
    theirs.step()
    close(params_of(ours), params_of(theirs))


def test_ones_own_loss_scale_is_kept() -> None:
    """``optimizer.grad_scale``, set by hand, divides gradients in the same step."""
    ours, theirs = pair()
    for opt, scale in ((ours, 4.0), (theirs, 1.0)):
        set_grads(params_of(opt), 0)
        for p in params_of(opt):
            p.grad.mul_(scale)
    ours.grad_scale = torch.tensor(4.0)
    clip_grad_norm_(ours, 2.0)  # of gradients as they are: 0.5 of the unscaled ones
    utils.clip_grad_norm_(params_of(theirs), 0.5)
    ours.step()
    theirs.step()
    close(params_of(ours), params_of(theirs))


def test_it_is_for_one_step() -> None:
    ours, theirs = pair()
    for step in range(2):
        for opt in (ours, theirs):
            set_grads(params_of(opt), step)
        if step == 0:
            clip_grad_norm_(ours, 0.5)
            utils.clip_grad_norm_(params_of(theirs), 0.5)
        ours.step()
        theirs.step()
    close(params_of(ours), params_of(theirs))


def test_zero_grad_drops_what_no_step_has_used() -> None:
    ours, theirs = pair()
    set_grads(params_of(ours), 7)
    clip_grad_norm_(ours, 1e-3)
    ours.zero_grad()
    for opt in (ours, theirs):
        set_grads(params_of(opt), 0)
        opt.step()
    assert all(map(same_bits, params_of(ours), params_of(theirs)))


def test_a_step_that_fails_can_be_repeated_clipped() -> None:
    ours, theirs = pair()
    for opt in (ours, theirs):
        set_grads(params_of(opt), 0)
    clip_grad_norm_(ours, 0.5)
    ours.param_groups[0]["lr"] = -1.0
    with refused(ours, ValueError, "learning rate"):
        ours.step()
    ours.param_groups[0]["lr"] = 0.1
    ours.step()
    utils.clip_grad_norm_(params_of(theirs), 0.5)
    theirs.step()
    close(params_of(ours), params_of(theirs))


def test_overflows_without_a_scaler_go_on_as_in_torch() -> None:
    ours, theirs = pair()
    for opt in (ours, theirs):
        set_grads(params_of(opt), 0)
        params_of(opt)[0].grad[0] = torch.inf
    clip_grad_norm_(ours, 0.5)
    utils.clip_grad_norm_(params_of(theirs), 0.5)
    ours.step()
    theirs.step()
    for p, q in zip(params_of(ours), params_of(theirs), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert params_of(ours)[0].isnan().sum() == 1


def test_without_gradients_nothing_is_clipped() -> None:
    opt, _ = pair()
    scaler = GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(()))
    assert float(clip_grad_norm_(opt, 1.0, scaler=scaler)) == 0.0
    opt.step()
    assert opt.steps_applied == 0


def test_refuses() -> None:
    opt, theirs = pair()
    set_grads(params_of(opt), 0)
    with refused(opt, TypeError, "got a SGD", "torch.nn.utils.clip_grad_norm_"):
        clip_grad_norm_(theirs, 1.0)  # type: ignore[arg-type]
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with refused(opt, ValueError, "max_norm", "above 0"):
            clip_grad_norm_(opt, bad)
    for bad in (0.0, -2.0, float("nan"), True):
        with refused(opt, ValueError, "norm_type", "above 0"):
            clip_grad_norm_(opt, 1.0, bad)
    params_of(opt)[0].grad[0] = torch.inf
    with refused(opt, RuntimeError, "is inf", "error_if_nonfinite=False"):
        clip_grad_norm_(opt, 1.0, error_if_nonfinite=True)
    with pytest.raises(AssertionError, match="_scale is None"):
        clip_grad_norm_(opt, 1.0, scaler=GradScaler("cpu"))
    assert opt._clip is None
    host, _ = pair(unscale=False)
    scaler = GradScaler("cpu", init_scale=8.0)
    scaled(host, scaler, 0, overflow=False)
    with refused(host, ValueError, "unscale=False", "scaler.unscale_"):
        clip_grad_norm_(host, 1.0, scaler=scaler)


def test_refuses_to_come_late() -> None:
    opt, _ = pair()
    scaler = GradScaler("cpu", init_scale=8.0)
    scaled(opt, scaler, 0, overflow=False)
    scaler.step(opt)
    with refused(opt, RuntimeError, "after scaler.step", "scaler.update()"):
        clip_grad_norm_(opt, 1.0, scaler=scaler)


def test_refuses_where_gradients_are_gone() -> None:
    opt, _ = pair()
    StepInBackward(opt)
    with refused(opt, RuntimeError, "StepInBackward", "remove()"):
        clip_grad_norm_(opt, 1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_norm_of_scaled_gradients_is_refused_by_the_step(backend: str) -> None:
    """Without ``scaler=`` the step would be as many times too small as the scale is large."""
    opt, _ = pair(backend=backend)
    scaler = GradScaler("cpu", init_scale=2.0**10)
    scaled(opt, scaler, 0, overflow=False)
    clip_grad_norm_(opt, 1.0)
    before = copies(params_of(opt))
    with pytest.raises(ValueError, match=r"GradScaler's scale.*pass it scaler="):
        scaler.step(opt)
    assert all(map(same_bits, params_of(opt), before))
    assert opt.steps_applied == 0

    again = GradScaler("cpu", init_scale=2.0**10)
    scaled(opt, again, 0, overflow=False)
    clip_grad_norm_(opt, 1.0, scaler=again)
    again.step(opt)
    assert opt.steps_applied == 1


def test_a_norm_of_gradients_that_a_scaler_unscaled_is_taken_without_it() -> None:
    ours, theirs = pair()
    scalers = [GradScaler("cpu", init_scale=8.0) for _ in "12"]
    for opt, scaler in zip((ours, theirs), scalers, strict=True):
        scaled(opt, scaler, 0, overflow=False)
        scaler.unscale_(opt)
    clip_grad_norm_(ours, 0.5)
    utils.clip_grad_norm_(params_of(theirs), 0.5)
    for opt, scaler in zip((ours, theirs), scalers, strict=True):
        scaler.step(opt)
    close(params_of(ours), params_of(theirs))
