"""float32 masters of half parameters: what they make of a run, and what writes to parameters."""

import copy
import io
import itertools
from typing import Any

import pytest
import torch
from support import (
    OPTIONS,
    copies,
    models,
    nothing_moves,
    offset_models,
    parameter,
    same_bits,
    sampled,
    set_grads,
    tensors_of,
    train,
)
from torch import Tensor

from fused_warmup import SGD

SHAPES = ((0,), (1,), (7,), (16,), (33, 3), (1023,), (1025,), (70, 71))
HALVES = (torch.bfloat16, torch.float16)


def masters_of(opt: SGD) -> list[Tensor]:
    return [opt.state[p]["master_param"] for group in opt.param_groups for p in group["params"]]


def params_of(opt: SGD) -> list[Tensor]:
    return [p for group in opt.param_groups for p in group["params"]]


def trained(
    options: dict[str, Any],
    dtypes: tuple[torch.dtype, torch.dtype],
    *,
    backend: str = "cpu",
    steps: int = 4,
    offset: int = 0,
) -> SGD:
    """A group with masters, and one without that has an average."""
    params = offset_models(SHAPES, dtypes, offset)
    groups = [
        {"params": params[2:], "master_weights": True, **options},
        {"params": params[:2], "lr": 0.3, "ema_decay": 0.9},
    ]
    opt = SGD(groups, lr=0.1, backend=backend)
    train(opt, steps)
    return opt


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_equals_torch_on_float32_copies(dtype) -> None:
    """Gradients come from the rounded parameters, the update is float32's."""
    params = models(*SHAPES, dtype=dtype)
    opt = SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True, master_weights=True)
    copied = [p.detach().float().requires_grad_() for p in params]
    theirs = torch.optim.SGD(copied, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    for t in range(5):
        set_grads(params, t)
        for master, p in zip(copied, params, strict=True):
            master.grad = p.grad.float()
        opt.step()
        theirs.step()
        assert all(map(same_bits, masters_of(opt), copied))
        for p, master in zip(params, copied, strict=True):
            assert same_bits(p.detach(), master.detach().to(dtype))
            if p.numel():
                assert same_bits(
                    opt.state[p]["momentum_buffer"], theirs.state[master]["momentum_buffer"]
                )


def test_small_updates_add_up() -> None:
    """What masters are for: 0.001 is lost beside 1 in bfloat16."""
    p = parameter(torch.ones(3, dtype=torch.bfloat16))
    opt = SGD([p], lr=0.001, master_weights=True)
    for _ in range(100):
        p.grad = torch.ones_like(p)
        opt.step()
    assert p.tolist() == [torch.tensor(0.9).bfloat16().item()] * 3


def test_float32_and_float64_need_none() -> None:
    opt = SGD([*models((3,)), *models((4,), dtype=torch.float64)], lr=0.1, master_weights=True)
    train(opt, 2)
    assert all("master_param" not in entry for entry in opt.state.values())


CASES = list(itertools.product(OPTIONS, HALVES, (None, torch.float32), (None, 0.9)))


@pytest.mark.parametrize(("options", "dtype", "grad_dtype", "decay"), sampled(CASES, 7), ids=str)
def test_kernel_equals_reference(options, dtype, grad_dtype, decay) -> None:
    options, dtypes = {**options, "ema_decay": decay}, (dtype, grad_dtype or dtype)
    ours, reference = (trained(options, dtypes, backend=name) for name in ("cpu", "reference"))
    assert all(map(same_bits, tensors_of(ours), tensors_of(reference)))
    assert [type(part).__name__ for part in ours._plan.parts] == ["CpuPlan"]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(
    "dtypes", list(itertools.product(HALVES, (*HALVES, torch.float32))), ids=str
)
def test_cuda_kernel_equals_reference(emulate, dtypes, offset) -> None:
    emulate()
    options = {"momentum": 0.9, "weight_decay": 0.01, "ema_decay": 0.9}
    ours = trained(options, dtypes, offset=offset)
    reference = trained(options, dtypes, backend="reference", offset=offset)
    assert all(map(same_bits, tensors_of(ours), tensors_of(reference)))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("by", ["copy_", "data", "swap"])
def test_a_parameter_that_was_written_to_is_read_into_its_master(backend, by) -> None:
    opt = trained({"momentum": 0.9}, (torch.bfloat16, torch.bfloat16), backend=backend)
    p = opt.param_groups[0]["params"][3]
    kept = opt.state[p]["master_param"].clone()
    new = p.detach().clone()
    new[0] = 2.0
    if by == "copy_":
        with torch.no_grad():
            p.copy_(new)
    elif by == "data":
        p.data = new
    else:
        with torch.no_grad():
            p[0] = 2.0
    kept[0] = 2.0
    for q in params_of(opt):
        q.grad = torch.zeros_like(q)
    opt.param_groups[0]["momentum"] = 0.0
    opt.step()
    assert same_bits(opt.state[p]["master_param"], kept)


def test_writes_that_change_nothing_cost_no_bits() -> None:
    """An evaluation with other weights that puts these back, for one."""
    ours, other = (trained({"momentum": 0.9}, (torch.bfloat16, torch.bfloat16)) for _ in range(2))
    for p in params_of(ours):
        with torch.no_grad():
            saved = p.clone()
            p.zero_()
            p.copy_(saved)
    for opt in (ours, other):
        train(opt, 2, first=4)
    assert all(map(same_bits, tensors_of(ours), tensors_of(other)))


def test_masters_are_read_anew_on_demand() -> None:
    """What is written through .data in place, nobody counts."""
    opt = trained({}, (torch.float16, torch.float16))
    p = opt.param_groups[0]["params"][3]
    p.data[0] = 3.0
    opt.reread_masters()
    assert opt.state[p]["master_param"][0] == 3.0


def test_turned_on_and_off_in_mid_run() -> None:
    params = models(*SHAPES, dtype=torch.bfloat16)
    opt = SGD(params, lr=0.1, momentum=0.9)
    train(opt, 2)
    buffers = [opt.state[p]["momentum_buffer"].float() for p in params]
    twins = [parameter(p.detach().float()) for p in params]
    theirs = torch.optim.SGD(twins, lr=0.1, momentum=0.9)
    for p, buffer in zip(twins, buffers, strict=True):
        theirs.state[p]["momentum_buffer"] = buffer
    opt.param_groups[0]["master_weights"] = True
    set_grads(params, 2)
    for p, q in zip(twins, params, strict=True):
        p.grad = q.grad.float()
    opt.step()
    theirs.step()
    assert all(map(same_bits, masters_of(opt), twins))
    opt.param_groups[0]["master_weights"] = False
    train(opt, 1, first=3)
    assert all("master_param" not in opt.state[p] for p in params)
    assert all(opt.state[p]["momentum_buffer"].dtype == torch.bfloat16 for p in params)


def test_a_skipped_step_leaves_masters_alone() -> None:
    opt = trained({"momentum": 0.9}, (torch.float16, torch.float16))
    opt.found_inf, opt.grad_scale = torch.tensor(1.0), torch.tensor(2.0)
    with nothing_moves(opt):
        opt.step()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("order", ["model first", "optimizer first"])
def test_resumes_to_the_bit_from_a_file(dtype, order) -> None:
    options = {"lr": 0.1, "momentum": 0.9, "master_weights": True, "ema_decay": 0.9}
    whole = SGD(models(*SHAPES, dtype=dtype), **options)
    train(whole, 5)
    first = SGD(models(*SHAPES, dtype=dtype), **options)
    saved = train(first, 2)[-1]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    params = [parameter(torch.zeros_like(p)) for p in saved]
    second = SGD(params, **options)
    loads = [
        lambda: [p.data.copy_(q) for p, q in zip(params, saved, strict=True)],
        lambda: second.load_state_dict(torch.load(file, weights_only=True)),
    ]
    for load in loads if order == "model first" else loads[::-1]:
        load()
    train(second, 3, first=2)
    assert all(map(same_bits, tensors_of(whole), tensors_of(second)))


def test_a_checkpoint_without_masters_starts_them_from_the_parameters() -> None:
    other = torch.optim.SGD(models(*SHAPES, dtype=torch.bfloat16), lr=0.1, momentum=0.9)
    params = [parameter(p) for p in train(other, 2)[-1]]
    opt = SGD(params, lr=0.1, momentum=0.9, master_weights=True)
    opt.load_state_dict(other.state_dict())
    assert opt.param_groups[0]["master_weights"]
    for p, q in zip(params, other.param_groups[0]["params"], strict=True):
        assert same_bits(opt.state[p]["master_param"], p.detach().float())
        if p.numel():
            buffer = other.state[q]["momentum_buffer"]
            assert same_bits(opt.state[p]["momentum_buffer"], buffer.float())
    train(opt, 1, first=2)


def test_copies_have_masters_of_their_own() -> None:
    opt = trained({"momentum": 0.9}, (torch.bfloat16, torch.bfloat16))
    twin = copy.deepcopy(opt)
    before = copies(tensors_of(opt))
    train(twin, 1, first=4)
    assert all(map(same_bits, tensors_of(opt), before))
    train(opt, 1, first=4)
    assert all(map(same_bits, tensors_of(opt), tensors_of(twin)))


def test_autograd_cannot_run_through_the_rounding() -> None:
    with pytest.raises(ValueError, match="master_weights=True with differentiable=True"):
        SGD(models((3,)), lr=0.1, master_weights=True, differentiable=True)


@pytest.mark.parametrize("backend", [None, "cpu", "reference"])
@pytest.mark.parametrize("shared", ["all", "a part", "as another shape"])
def test_parameters_that_share_memory_cannot_have_a_master_each(backend, shared) -> None:
    """Each would lose what the other adds in steps of less than a rounding."""
    memory = torch.ones(8, dtype=torch.bfloat16)
    views = {"all": memory[:], "a part": memory[6:], "as another shape": memory.view(2, 4)}
    params = [parameter(memory[:]), parameter(views[shared])]
    opt = SGD(params, lr=1e-4, master_weights=True, backend=backend)
    set_grads(params, 0)
    with nothing_moves(opt), pytest.raises(ValueError, match=r"share memory.*tie the parameter"):
        opt.step()
    opt.param_groups[0]["master_weights"] = False
    opt.step()


def test_parameters_that_come_to_share_memory_are_noticed() -> None:
    params = models((8,), (8,), (8,), dtype=torch.float16)
    opt = SGD(params, lr=0.1, master_weights=True)
    train(opt, 1)
    params[1].data = params[0].data
    set_grads(params, 1)
    before = copies(params)
    with pytest.raises(ValueError, match="share memory"):
        opt.step()
    assert all(map(same_bits, params, before))
    params[1].data = params[0].detach().clone()
    opt.step()


def test_parameters_between_the_elements_of_others_have_masters() -> None:
    memory = torch.ones(8, dtype=torch.bfloat16)
    params = [parameter(memory[::2]), parameter(memory[1::2])]
    opt = SGD(params, lr=0.001, master_weights=True)
    for _ in range(100):
        for p in params:
            p.grad = torch.ones_like(p)
        opt.step()
    assert memory.tolist() == [torch.tensor(0.9).bfloat16().item()] * 8
