"""The CUDA kernel on a machine without a GPU: its body in C++, and the PTX that nvcc makes of it.

Every test runs both (see `emulate` in conftest.py), over all blocks and threads, and compares them
with the reference to the bit.
"""

import itertools
from collections.abc import Callable

import pytest
import torch
from support import DTYPE_PAIRS, OPTIONS, same_bits

from fused_warmup import SGD
from fused_warmup.schedules import cosine, inverse_sqrt, linear_warmup, step, table

SIZES = (0, 1, 3, 4, 5, 63, 64, 65, 127, 255, 256, 257, 5003, 30011)


def parameters(
    dtype: torch.dtype, grad_dtype: torch.dtype, sizes: tuple[int, ...] = SIZES, offset: int = 0
) -> list[torch.Tensor]:
    """Parameters with gradients; `offset` elements keep them from a 16-byte boundary."""
    generator = torch.Generator().manual_seed(7)
    params = []
    for size in sizes:
        draw = torch.randn(size + offset, generator=generator)
        p = draw.to(dtype)[offset:].requires_grad_()
        p.grad_dtype = grad_dtype
        p.grad = torch.randn(size + offset, generator=generator).to(grad_dtype)[offset:]
        params.append(p)
    return params


def assert_equal_steps(
    make: Callable[[str], tuple[SGD, list[torch.Tensor]]], steps: int = 3
) -> SGD:
    runs = [make("cpu"), make("reference")]
    for _ in range(steps):
        for opt, params in runs:
            opt.step()
            for i, p in enumerate(params):
                assert p.grad is not None
                p.grad.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    (ours, mine), (reference, theirs) = runs
    for p, q in zip(mine, theirs, strict=True):
        assert same_bits(p, q)
        assert p.numel() == 0 or not torch.equal(p, torch.zeros_like(p))
        if "momentum_buffer" in reference.state[q]:
            mine_too, theirs_too = (run.state[x] for run, x in ((ours, p), (reference, q)))
            assert same_bits(mine_too["momentum_buffer"], theirs_too["momentum_buffer"])
    assert ours.steps_applied == reference.steps_applied == steps
    assert ours.get_last_lr() == reference.get_last_lr()
    return ours


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_reference_for_all_options(emulate, options) -> None:
    emulate()

    def make(name: str) -> tuple[SGD, list[torch.Tensor]]:
        params = parameters(torch.float32, torch.float32)
        return SGD(params, lr=0.1, backend=name, **options), params

    assert_equal_steps(make)


def test_equals_reference_under_a_schedule_of_the_momentum(emulate) -> None:
    """A step at which it is 0 leaves the buffer alone, and a first one is not the first yet."""
    emulate()

    def make(name: str) -> tuple[SGD, list[torch.Tensor]]:
        groups = [
            {"params": parameters(torch.float32, torch.float32)},
            {"params": parameters(torch.float32, torch.float32), "momentum_schedule": None},
            {"params": parameters(torch.float32, torch.float32), "dampening": 0.0},
        ]
        options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}
        momentum = table((0.0, 0.5, 1.0, 0.0, 0.25))
        opt = SGD(groups, momentum_schedule=momentum, backend=name, **options)
        return opt, [p for group in groups for p in group["params"]]

    ours = assert_equal_steps(make, steps=5)
    marks = [int(ours.state[g["params"][-1]]["first_step"]) for g in ours.param_groups[:2]]
    assert marks == [1, 0]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_equals_reference_for_all_dtypes(emulate, dtypes, offset) -> None:
    emulate()

    def make(name: str) -> tuple[SGD, list[torch.Tensor]]:
        params = parameters(*dtypes, offset=offset)
        return SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, backend=name), params

    assert_equal_steps(make)


def test_groups_of_one_launch_have_their_own_options_and_dtypes(emulate) -> None:
    plans = emulate()

    def make(name: str) -> tuple[SGD, list[torch.Tensor]]:
        first = parameters(torch.float32, torch.float32, (70, 5003))
        second = parameters(torch.bfloat16, torch.float32, (300, 9))
        third = parameters(torch.float64, torch.float64, (33,))
        groups = [
            {"params": first, "lr": 0.3, "momentum": 0.9, "dampening": 0.2},
            {
                "params": second,
                "lr": torch.tensor(0.2),
                "weight_decay": 0.1,
                "schedule": step(2, 0.5),
            },
            {"params": third, "momentum": 0.5, "nesterov": True, "schedule": inverse_sqrt(3)},
        ]
        schedule = (linear_warmup(3, start=0.25) * step(2, 0.5)).lasting(3).then(cosine(4))
        return SGD(groups, lr=0.1, schedule=schedule, backend=name), first + second + third

    assert_equal_steps(make, steps=5)
    assert len(plans) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_last_block_advances_the_counter_in_every_block_order(emulate, order) -> None:
    plans = emulate(resident_blocks=3)

    def make(name: str) -> tuple[SGD, list[torch.Tensor]]:
        params = parameters(torch.float32, torch.float32, (20_000, 5))
        schedule = linear_warmup(5, start=0.5)
        return SGD(
            params, lr=0.1, momentum=0.9, dampening=0.5, schedule=schedule, backend=name
        ), params

    opt, params = make("cpu")
    opt.step()
    (plan,) = plans
    assert plan.n_blocks == 3
    plan.set_block_order(list(order))
    expected, theirs = make("reference")
    expected.step()
    for t in range(1, 4):
        opt.step()
        expected.step()
        assert (opt.steps_applied, plan.ticket) == (t + 1, 0)
        assert opt.get_last_lr() == expected.get_last_lr() == [0.1 * (0.5 + 0.5 * t / 5)]
        assert all(torch.equal(p, q) for p, q in zip(params, theirs, strict=True))


@pytest.mark.parametrize("found_inf", [1.0, 2.0, float("nan")])
def test_skipped_step_changes_nothing(emulate, found_inf) -> None:
    (plans, params) = (emulate(), parameters(torch.float32, torch.float32))
    opt = SGD(params, lr=0.1, momentum=0.9, dampening=0.5, backend="cpu")
    opt.step()
    before = [p.detach().clone() for p in params]
    buffers = [opt.state[p]["momentum_buffer"].clone() for p in params]
    opt.found_inf = torch.tensor(found_inf)
    opt.step()
    assert (opt.steps_applied, plans[0].ticket) == (1, 0)
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    kept = [opt.state[p]["momentum_buffer"] for p in params]
    assert all(torch.equal(p, q) for p, q in zip(kept, buffers, strict=True))
    opt.found_inf = torch.tensor(0.0)
    opt.step()
    assert opt.steps_applied == 2
    assert not torch.equal(params[-1], before[-1])


def test_gradients_are_unscaled_and_written_back(emulate) -> None:
    emulate()

    def make(name: str) -> tuple[SGD, list[torch.Tensor]]:
        params = parameters(torch.float32, torch.float32)
        opt = SGD(params, lr=0.1, momentum=0.9, backend=name)
        opt.grad_scale, opt.found_inf = torch.tensor(3.0), torch.tensor(0.0)
        return opt, params

    opts = [make("cpu"), make("reference")]
    for opt, _ in opts:
        opt.step()
    for p, q in zip(opts[0][1], opts[1][1], strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p.grad, q.grad)


def test_tables_follow_gradients_that_move_and_parameters_that_freeze(emulate) -> None:
    emulate()

    def make(name: str) -> tuple[SGD, list[torch.Tensor]]:
        params = parameters(torch.float32, torch.float32, (40, 300, 5003))
        return SGD(params, lr=0.1, momentum=0.9, backend=name), params

    runs = [make("cpu"), make("reference")]
    for round_ in range(4):
        for opt, params in runs:
            for i, p in enumerate(params):
                frozen = round_ == 1 + i
                p.grad = None if frozen else torch.full_like(p, 0.1 * (i + round_ + 1))
            opt.step()
    for p, q in zip(runs[0][1], runs[1][1], strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("shape", [(10_000, 1), (1, 40_000), (300, 64)])
@pytest.mark.parametrize("resident_blocks", [1, 2, 33])
def test_every_element_is_updated_once_however_the_line_is_cut(
    emulate, shape, resident_blocks
) -> None:
    plans = emulate(resident_blocks)
    params = [torch.zeros(shape[1], requires_grad=True) for _ in range(shape[0])]
    for p in params:
        p.grad = torch.ones_like(p)
    opt = SGD(params, lr=1.0, backend="cpu")
    opt.step()
    assert plans[0].n_blocks <= resident_blocks
    assert all(bool((p == -1).all()) for p in params)
