"""Exponential moving averages in the step, beside torch's own and in all that they live through."""

import copy
import io
import itertools
from typing import Any

import pytest
import torch
from support import (
    DTYPE_PAIRS,
    models,
    nothing_moves,
    offset_models,
    parameter,
    randn,
    refused,
    same_bits,
    sampled,
    set_grads,
    tensors_of,
    train,
)
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fused_warmup import SGD, linear_warmup
from fused_warmup.distributed import StepInBackward

SHAPES = ((0,), (1,), (7,), (16,), (17,), (33, 3), (1023,), (1025,), (70, 71))
OPTIONS: list[dict[str, Any]] = [
    {"ema_decay": decay, "ema_every": every, "ema_start": start, "ema_schedule": schedule}
    for decay, every, start, schedule in itertools.product(
        (0.0, 0.3, 0.5, 0.999, 1.0), (1, 2, 3), (None, 0, 1, 4), (None, linear_warmup(4))
    )
]


def wide(p: Tensor) -> Tensor:
    return p.detach().to(torch.float32 if p.dtype.itemsize < 4 else p.dtype)


def averages_of(opt: SGD) -> list[Tensor]:
    return [opt.state[p]["ema"] for group in opt.param_groups for p in group["params"]]


def trained(
    options: dict[str, Any],
    dtypes: tuple[torch.dtype, torch.dtype] = (torch.float32, torch.float32),
    *,
    backend: str = "cpu",
    steps: int = 6,
    offset: int = 0,
) -> SGD:
    """Two groups, of which one has averages; ``offset`` elements from a 16-byte boundary."""
    params = offset_models(SHAPES, dtypes, offset)
    groups = [{"params": params[2:], **options}, {"params": params[:2], "lr": 0.3}]
    opt = SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01, backend=backend)
    train(opt, steps)
    return opt


@pytest.mark.parametrize("options", sampled(OPTIONS, 7), ids=str)
def test_equals_torch_lerp_under_all_options(options) -> None:
    """Steps and starts as Lightning counts them; until the first update all are copies."""
    params = models(*SHAPES)
    opt = SGD(params, lr=0.1, momentum=0.9, **options)
    every, start, schedule = (options[f"ema_{n}"] for n in ("every", "start", "schedule"))
    expected, copied = [wide(p).clone() for p in params], start is None
    for t in range(8):
        train(opt, 1, first=t)
        is_update = t >= (start or 0) and t % every == 0
        if is_update or not copied:
            decay = options["ema_decay"] * (schedule(t) if schedule else 1.0)
            for ema, p in zip(expected, params, strict=True):
                ema.lerp_(p.detach(), 1 - decay if copied else 1.0)
        copied = copied or is_update
        assert all(map(same_bits, averages_of(opt), expected))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("every", "without"), [(1, (2,)), (1, (1, 2, 3)), (3, (3,)), (2, (2, 3))])
def test_a_start_is_not_missed_for_want_of_a_gradient(backend, every, without) -> None:
    """The average is then that of a parameter whose gradient was zero in those steps."""
    params, others = models((5,), (9,)), models((5,), (9,))
    runs = [
        SGD(each, lr=0.1, ema_decay=0.9, ema_start=2, ema_every=every, backend=backend)
        for each in (params, others)
    ]
    for t in range(6):
        for opt, own in zip(runs, (params, others), strict=True):
            set_grads(own, t)
            if t in without:
                own[1].grad = None if opt is runs[0] else torch.zeros_like(own[1])
            opt.step()
        assert all(map(same_bits, *map(averages_of, runs)))


@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_average_is_of_what_the_model_sees(dtypes) -> None:
    params = [parameter(randn(*s, seed=1, dtype=dtypes[0]), dtypes[1]) for s in SHAPES]
    opt = SGD(params, lr=0.1, momentum=0.9, ema_decay=0.9)
    expected = [wide(p).clone() for p in params]
    for t in range(3):
        train(opt, 1, first=t)
        for ema, p in zip(expected, params, strict=True):
            ema.lerp_(wide(p), 1 - 0.9)
    assert all(map(same_bits, averages_of(opt), expected))


def test_equals_torch_averaged_model() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(7, 33), torch.nn.Linear(33, 5))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    opt = SGD(model.parameters(), lr=0.1, momentum=0.9, ema_decay=0.99, ema_start=0)
    for t in range(5):
        train(opt, 1, first=t)
        averaged.update_parameters(model)
    assert all(map(same_bits, averages_of(opt), (p.detach() for p in averaged.module.parameters())))


CASES = list(itertools.product(OPTIONS, DTYPE_PAIRS))


@pytest.mark.parametrize(("options", "dtypes"), sampled(CASES, 41), ids=str)
def test_kernel_equals_reference(options, dtypes) -> None:
    ours, reference = (trained(options, dtypes, backend=name) for name in ("cpu", "reference"))
    assert all(map(same_bits, tensors_of(ours), tensors_of(reference)))
    assert [type(part).__name__ for part in ours._plan.parts] == ["CpuPlan"]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_cuda_kernel_equals_reference(emulate, dtypes, offset) -> None:
    emulate()
    options = {"ema_decay": 0.9, "ema_every": 2, "ema_schedule": linear_warmup(4)}
    ours = trained(options, dtypes, offset=offset)
    reference = trained(options, dtypes, backend="reference", offset=offset)
    assert all(map(same_bits, tensors_of(ours), tensors_of(reference)))
    assert [type(part).__name__ for part in ours._plan.parts] == ["EmulatedPlan"]


def test_a_model_that_is_loaded_after_the_optimizer_was_built_is_where_averages_start() -> None:
    (p,) = models((9,))
    opt = SGD([p], lr=0.1, ema_decay=0.5)
    with torch.no_grad():
        p.copy_(torch.arange(9.0))
    before = p.detach().clone()
    train(opt, 1)
    assert same_bits(opt.state[p]["ema"], before.lerp(p.detach(), 0.5))


def test_a_skipped_step_leaves_averages_alone() -> None:
    opt = trained({"ema_decay": 0.9})
    opt.found_inf, opt.grad_scale = torch.tensor(1.0), torch.tensor(2.0)
    with nothing_moves(opt):
        opt.step()


def test_turned_on_and_off_in_mid_run() -> None:
    params = models(*SHAPES)
    opt = SGD(params, lr=0.1)
    train(opt, 2)
    opt.param_groups[0]["ema_decay"] = 0.5
    expected = [p.detach().clone() for p in params]
    train(opt, 1, first=2)
    for ema, p in zip(expected, params, strict=True):
        ema.lerp_(p.detach(), 0.5)
    assert all(map(same_bits, averages_of(opt), expected))
    opt.param_groups[0]["ema_decay"] = 1 / 4
    train(opt, 1, first=3)
    for ema, p in zip(expected, params, strict=True):
        ema.lerp_(p.detach(), 0.75)
    opt.param_groups[0]["ema_decay"] = None
    train(opt, 1, first=4)
    assert all(map(same_bits, averages_of(opt), expected))


def test_late_parameters_and_groups_start_from_themselves() -> None:
    first, late, frozen = models((9,), (5,), (3,))
    frozen.requires_grad_(False)
    opt = SGD([first, frozen], lr=0.1, ema_decay=0.5)
    assert "ema" not in opt.state[frozen]
    train(opt, 0)
    set_grads([first], 0)
    opt.step()
    opt.add_param_group({"params": [late]})
    frozen.requires_grad_()
    before = [frozen.detach().clone(), late.detach().clone()]
    train(opt, 1, first=1)
    for old, p in zip(before, (frozen, late), strict=True):
        assert same_bits(opt.state[p]["ema"], old.lerp(p.detach(), 0.5))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resumes_to_the_bit_from_a_file(dtype, k) -> None:
    options = {"lr": 0.1, "momentum": 0.9, "ema_decay": 0.9, "ema_schedule": linear_warmup(4)}
    whole = SGD(models(*SHAPES, dtype=dtype), **options)
    train(whole, 5)
    first = SGD(models(*SHAPES, dtype=dtype), **options)
    params = train(first, k)[-1]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = SGD([parameter(p) for p in params], **options)
    second.load_state_dict(torch.load(file, weights_only=True))
    train(second, 5 - k, first=k)
    assert all(map(same_bits, tensors_of(whole), tensors_of(second)))
    assert all(ema.dtype == torch.float32 for ema in averages_of(second))


def test_copies_have_averages_of_their_own() -> None:
    opt = trained({"ema_decay": 0.9}, (torch.bfloat16, torch.bfloat16))
    twin = copy.deepcopy(opt)
    for one in (opt, twin):
        train(one, 2, first=6)
    assert all(map(same_bits, tensors_of(opt), tensors_of(twin)))


@pytest.mark.parametrize("loaded_first", ["model", "optimizer"])
def test_a_torch_checkpoint_has_no_averages_and_they_start_with_the_next_step(loaded_first) -> None:
    other = torch.optim.SGD(models(*SHAPES), lr=0.1, momentum=0.9)
    train(other, 2)
    params = models(*SHAPES)
    opt = SGD(params, lr=0.1, momentum=0.9, ema_decay=0.5)
    train(opt, 1)

    def load_model() -> None:
        with torch.no_grad():
            for p, q in zip(params, other.param_groups[0]["params"], strict=True):
                p.copy_(q)

    if loaded_first == "model":
        load_model()
    opt.load_state_dict(other.state_dict())
    if loaded_first == "optimizer":
        load_model()
    assert opt.param_groups[0]["ema_decay"] == 0.5
    expected = [p.detach().clone() for p in params]
    train(opt, 1, first=2)
    for ema, p in zip(expected, params, strict=True):
        ema.lerp_(p.detach(), 0.5)
    assert all(map(same_bits, averages_of(opt), expected))


def test_own_checkpoint_without_averages_does_not_turn_them_off() -> None:
    plain = SGD(models((4,)), lr=0.1)
    opt = SGD(models((4,)), lr=0.1, ema_decay=0.5, ema_every=2)
    opt.load_state_dict(plain.state_dict())
    assert (opt.param_groups[0]["ema_decay"], opt.param_groups[0]["ema_every"]) == (0.5, 2)
    plain.load_state_dict(SGD(models((4,)), lr=0.1, ema_decay=0.9).state_dict())
    assert plain.param_groups[0]["ema_decay"] == 0.9


def test_updates_in_backward_average_too() -> None:
    layers = [torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Linear(6, 2)) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    opts = [SGD(model.parameters(), lr=0.1, momentum=0.9, ema_decay=0.5) for model in layers]
    StepInBackward(opts[1])
    for step in range(3):
        for model, opt in zip(layers, opts, strict=True):
            model(randn(4, 5, seed=step)).square().sum().backward()
            opt.step()
            opt.zero_grad()
    assert all(map(same_bits, averages_of(opts[0]), averages_of(opts[1])))


def test_an_average_that_shares_memory_with_a_parameter_is_updated_in_order() -> None:
    """By torch's operations, which know what that comes to."""
    p, q = models((8,), (8,))
    opt = SGD([p, q], lr=0.1, ema_decay=0.5)
    train(opt, 1)
    opt.state[p]["ema"] = q.detach()
    before = p.detach().clone(), q.detach().clone()
    set_grads([p, q], 1)
    opt.step()
    expected_p = before[0].sub(p.grad, alpha=0.1)
    assert same_bits(p.detach(), expected_p)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ema_decay": 1.5}, ValueError, ("ema_decay", "1.5", "at most 1")),
        ({"ema_decay": -0.1}, ValueError, ("ema_decay", "-0.1")),
        ({"ema_decay": float("nan")}, ValueError, ("ema_decay", "nan")),
        ({"ema_decay": "0.9"}, TypeError, ("ema_decay", "'0.9'")),
        ({"ema_decay": True}, TypeError, ("ema_decay", "True", "a number")),
        ({"ema_decay": torch.tensor(True)}, TypeError, ("ema_decay", "True", "a number")),
        ({"ema_every": 0}, ValueError, ("ema_every", "at least 1")),
        ({"ema_every": 1.5}, TypeError, ("ema_every", "1.5")),
        ({"ema_every": True}, TypeError, ("ema_every", "True")),
        ({"ema_start": -1}, ValueError, ("ema_start", "at least 0")),
        ({"ema_start": 2**63}, ValueError, ("ema_start", "2**62")),
        ({"ema_schedule": 0.5}, TypeError, ("ema_schedule", "0.5")),
    ],
    ids=str,
)
def test_bad_options_are_refused_by_name(options, error, words) -> None:
    with pytest.raises(error) as caught:
        SGD(models((3,)), lr=0.1, **options)
    assert all(word in str(caught.value) for word in words)
    opt = trained({"ema_decay": 0.9})
    opt.param_groups[0].update(options)
    with refused(opt, error, *words):
        opt.step()


@pytest.mark.parametrize("value", [3, torch.zeros(2)], ids=str)
def test_something_else_in_the_place_of_an_average_is_refused(value) -> None:
    opt = trained({"ema_decay": 0.9})
    p = opt.param_groups[0]["params"][0]
    opt.state[p]["ema"] = value
    with pytest.raises(TypeError, match="ema"):
        opt.step()


def test_parts_without_averages_beside_parts_with() -> None:
    # Memory with holes is the reference backend's, and its group has no averages.
    whole = torch.nn.Parameter(torch.ones(4))
    holes = torch.nn.Parameter(torch.ones(4, 6)[:, ::2])
    opt = SGD([{"params": [whole], "ema_decay": 0.5}, {"params": [holes]}], lr=0.5)
    twin = copy.deepcopy(opt)
    for each in (opt, twin):
        for group in each.param_groups:
            group["params"][0].grad = torch.ones_like(group["params"][0])
    twin.param_groups[1]["ema_decay"] = 0.5
    opt.step()
    twin.step()
    for ours, theirs in zip(opt.param_groups, twin.param_groups, strict=True):
        assert torch.equal(ours["params"][0], theirs["params"][0])
    assert "ema" not in opt.state[holes]


def test_averages_and_masters_move_with_the_model() -> None:
    model = torch.nn.Conv2d(3, 4, 3).bfloat16()
    opt = SGD(model.parameters(), lr=0.1, ema_decay=0.5, master_weights=True)
    for _ in range(2):
        opt.zero_grad()
        model(torch.ones(1, 3, 5, 5).bfloat16()).sum().backward()
        opt.step()
    before = copy.deepcopy(opt)
    model.to(memory_format=torch.channels_last)
    for each in (opt, before):
        for p in each.param_groups[0]["params"]:
            p.grad = torch.ones_like(p)
        each.step()
    for p, q in zip(opt.param_groups[0]["params"], before.param_groups[0]["params"], strict=True):
        for name in ("ema", "master_param"):
            assert torch.equal(opt.state[p][name], before.state[q][name])
            assert opt.state[p][name].stride() == p.stride()


def test_averages_go_along_to_another_dtype() -> None:
    model = torch.nn.Linear(2, 2)
    opt = SGD(model.parameters(), lr=1.0, ema_decay=0.5)
    model(torch.ones(1, 2)).sum().backward()
    opt.step()
    before = opt.state[model.weight]["ema"].double()
    opt.zero_grad()
    model.double()
    model.weight.grad = torch.zeros_like(model.weight)
    opt.step()
    assert torch.equal(opt.state[model.weight]["ema"], before.lerp(model.weight.detach(), 0.5))
