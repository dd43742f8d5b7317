"""LARS: the paper's formula, the same bits on every backend, and what it shares with SGD."""

import copy
import pickle

import pytest
import torch
from support import (
    DTYPE_PAIRS,
    copies,
    models,
    parameter,
    randn,
    refused,
    same_bits,
    set_grads,
    tensors_of,
    train,
)
from support.lars import EXTRAS, LARS_OPTIONS, lars_in_float64, trained
from torch import Tensor

from fused_warmup import LARS, SGD, clip_grad_norm_, linear_warmup
from fused_warmup._backend.lars import MAX_CHUNKS, MIN_CHUNK, SUM_LANES, chunk_size, sum_of_squares
from fused_warmup.distributed import StepInBackward


@pytest.mark.parametrize("options", LARS_OPTIONS[::5], ids=str)
def test_kernel_equals_reference_for_all_options(options) -> None:
    options = {**options, "trust_coefficient": 0.1}
    ours, reference = (trained(options, backend=name) for name in ("cpu", "reference"))
    assert all(map(same_bits, tensors_of(ours), tensors_of(reference)))
    assert [type(part).__name__ for part in ours._plan.parts] == ["CpuPlan"]


@pytest.mark.parametrize(("scale", "extras"), [(None, {}), (1024.0, {}), (1024.0, EXTRAS)], ids=str)
@pytest.mark.parametrize("dtypes", DTYPE_PAIRS, ids=str)
def test_kernel_equals_reference_for_all_dtypes(dtypes, scale, extras) -> None:
    options = {"momentum": 0.9, "weight_decay": 0.01, "trust_coefficient": 0.1, **extras}
    ours, reference = (
        trained(options, dtypes, backend=name, scale=scale) for name in ("cpu", "reference")
    )
    assert all(map(same_bits, tensors_of(ours), tensors_of(reference)))


@pytest.mark.parametrize("options", LARS_OPTIONS[::11], ids=str)
def test_equals_the_formula_in_float64(options) -> None:
    """float64 parameters: only the order of a few additions may differ, 2**-53 of each."""
    shapes = ((3,), (129,), (8, 3, 3, 3), (4097,))
    params = [parameter(randn(*s, seed=i, dtype=torch.float64)) for i, s in enumerate(shapes)]
    opt = LARS(params, lr=0.5, eps=1e-8, trust_coefficient=0.05, **options)
    expected, velocities = copies(params), [None] * len(params)
    for step in range(3):
        set_grads(params, step)
        for i, p in enumerate(params):
            wanted = {**options, "eps": 1e-8, "trust_coefficient": 0.05}
            expected[i], velocities[i] = lars_in_float64(
                expected[i], p.grad, velocities[i], wanted, 0.5
            )
        opt.step()
        for p, e in zip(params, expected, strict=True):
            # A sum of 4,097 squares, and its neighbours, have some 50 roundings on any path.
            torch.testing.assert_close(p.detach(), e, rtol=2**-46, atol=2**-46)


@pytest.mark.parametrize("n", [0, 1, 127, 128, 129, MIN_CHUNK, MIN_CHUNK + 1, 3 * MIN_CHUNK + 77])
def test_sum_of_squares_keeps_its_documented_order(n) -> None:
    values = randn(n, seed=1)

    def in_order(terms: list[float]) -> float:
        lanes = [0.0] * SUM_LANES
        for i, term in enumerate(terms):
            lanes[i % SUM_LANES] += term
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
        return lanes[0]

    squares = [float(x) ** 2 for x in values]
    chunks = [in_order(squares[i : i + MIN_CHUNK]) for i in range(0, n, MIN_CHUNK)]
    assert sum_of_squares(values, values).item() == in_order(chunks)


def test_chunks_grow_with_the_tensor() -> None:
    most = MIN_CHUNK * MAX_CHUNKS
    sizes = [chunk_size(n) for n in (1, most, most + 1, 4 * most)]
    assert sizes == [MIN_CHUNK, MIN_CHUNK, 2 * MIN_CHUNK, 4 * MIN_CHUNK]


def test_a_run_repeats_to_the_bit_on_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            params = [parameter(randn(n, seed=i)) for i, n in enumerate((300_001, 64, 5, 70_000))]
            opt = LARS(params, lr=1.0, momentum=0.9, weight_decay=0.01)
            train(opt, 3)
            runs.append(copies(tensors_of(opt)))
    finally:
        torch.set_num_threads(before)
    for other in runs[1:]:
        assert all(map(same_bits, runs[0], other))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norms_neither_overflow_nor_vanish(backend, size) -> None:
    """float32 squares of these would be 0 or infinite, and the ratio 1 or NaN."""
    p = parameter(torch.full((500,), 2.0))
    opt = LARS([p], lr=1.0, trust_coefficient=0.5, backend=backend)
    p.grad = torch.full((500,), size)
    opt.step()
    # |w| / |g| g is w: half of it goes. A product of three numbers has three roundings.
    torch.testing.assert_close(p.detach(), torch.full((500,), 1.0), rtol=3 * 2**-24, atol=0)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_rate_stays_finite(backend) -> None:
    """Infinity times the zeros of a gradient that all but vanishes would be NaN."""
    p = parameter(torch.ones(3))
    opt = LARS([p], lr=1.0, backend=backend)
    p.grad = torch.tensor([1e-45, 0.0, 0.0])
    opt.step()
    moved = 1.0 - 2.0**-149 * torch.finfo(torch.float32).max
    torch.testing.assert_close(p.detach(), torch.tensor([moved, 1.0, 1.0]), rtol=2**-24, atol=0)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("zero", ["param", "grad"])
def test_a_norm_of_zero_leaves_the_rate_to_sgd(backend, zero) -> None:
    p = parameter(torch.zeros(5) if zero == "param" else torch.ones(5))
    opt = LARS([p], lr=2.0, trust_clip=True, weight_decay=0.25, backend=backend)
    p.grad = torch.zeros(5) if zero == "grad" else torch.ones(5)
    opt.step()
    assert p.tolist() == [0.5 if zero == "grad" else -2.0] * 5


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_skipped_step_changes_nothing(backend) -> None:
    params = models((300,), (70, 3))
    opt = LARS(params, lr=1.0, momentum=0.9, backend=backend, schedule=linear_warmup(5, start=0.2))
    train(opt, 2)
    set_grads(params, 9)
    params[0].grad[3] = float("inf")
    before = copies(tensors_of(opt))
    opt.found_inf, opt.grad_scale = torch.tensor(1.0), torch.tensor(2.0)
    opt.step()
    assert all(map(same_bits, tensors_of(opt), before))
    assert opt.steps_applied == 2


def test_clipping_comes_before_the_norms() -> None:
    """The ratio is that of the clipped gradient, as with torch's clipping before a step."""
    ours, theirs = models((300,), (70, 3)), models((300,), (70, 3))
    runs = [LARS(p, lr=1.0, weight_decay=0.1, momentum=0.9) for p in (ours, theirs)]
    for step in range(3):
        for params in (ours, theirs):
            set_grads(params, step)
        clip_grad_norm_(runs[0], 0.5)
        torch.nn.utils.clip_grad_norm_(theirs, 0.5)
        for opt in runs:
            opt.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)  # the factor's rounding


def test_resumes_bit_for_bit_at_any_step() -> None:
    options = {"lr": 1.0, "momentum": 0.9, "weight_decay": 0.01, "schedule": linear_warmup(4)}
    whole = models((300,), (70, 3))
    opt = LARS(whole, **options)
    train(opt, 2)
    saved, parameters = copy.deepcopy(opt.state_dict()), copies(whole)
    pickled = pickle.dumps(opt)
    train(opt, 3, first=2)

    params = models((300,), (70, 3))
    resumed = LARS(params, **options)
    for p, q in zip(params, parameters, strict=True):
        p.data.copy_(q)
    resumed.load_state_dict(saved)
    train(resumed, 3, first=2)
    again = pickle.loads(pickled)
    train(again, 3, first=2)
    for other in (resumed, again):
        assert all(map(same_bits, tensors_of(opt), tensors_of(other)))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_norms_are_those_of_masters(backend) -> None:
    """A parameter that was written to is read into its master before its norm is taken."""
    params = models((300,), (70, 3), dtype=torch.bfloat16)
    opt = LARS(params, lr=1.0, trust_coefficient=0.5, master_weights=True, backend=backend)
    train(opt, 3)
    with torch.no_grad():
        params[0].mul_(4.0)
    wide = [opt.state[p]["master_param"].clone() for p in params]
    wide[0] = params[0].detach().float()
    twins = [parameter(values) for values in wide]
    other = LARS(twins, lr=1.0, trust_coefficient=0.5, backend=backend)
    set_grads(params, 3)
    for p, twin in zip(params, twins, strict=True):
        twin.grad = p.grad.float()
    for each in (opt, other):
        each.step()
    masters = [opt.state[p]["master_param"] for p in params]
    assert all(map(same_bits, masters, (twin.detach() for twin in twins)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_averages_and_masters_resume_and_skip(dtype) -> None:
    options = {"lr": 1.0, "momentum": 0.9, "schedule": linear_warmup(4), **EXTRAS}
    whole = LARS(models((300,), (70, 3), dtype=dtype), **options)
    train(whole, 2)
    params = [parameter(p.detach().clone()) for p in whole.param_groups[0]["params"]]
    resumed = LARS(params, **options)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for opt in (whole, resumed):
        opt.found_inf = torch.tensor(1.0)
        train(opt, 1, first=7)
        opt.found_inf = None
        train(opt, 2, first=2)
        assert opt.steps_applied == 4
    assert all(map(same_bits, tensors_of(whole), tensors_of(resumed)))
    assert "ema" in whole.state[whole.param_groups[0]["params"][0]]


def test_groups_with_and_without_averages_share_the_launches() -> None:
    options = {"lr": 1.0, "momentum": 0.9, "trust_coefficient": 0.1}
    together, alone = models((300,), (70, 3)), models((300,), (70, 3))
    opt = LARS([{"params": together[:1], "ema_decay": 0.9}, {"params": together[1:]}], **options)
    plain = LARS(alone, **options)
    train(opt, 3)
    train(plain, 3)
    assert all(map(same_bits, together, alone))
    assert len(opt._plan.parts) == 1
    assert [("ema" in opt.state[p]) for p in together] == [True, False]


def test_a_parameter_may_be_unfrozen_late() -> None:
    runs = []
    for late in (False, True):
        params = models((300,), (70, 3))
        params[1].requires_grad_(not late)
        opt = LARS(params, lr=1.0, momentum=0.9)
        for step in range(4):
            set_grads(params, step)
            if step < 2:
                params[1].grad = None
            params[1].requires_grad_(not late or step >= 2)
            opt.step()
        runs.append(params)
    assert all(map(same_bits, *runs))


def test_steps_in_backward_are_those_of_step() -> None:
    runs = []
    for in_backward in (False, True):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(7, 33), torch.nn.ReLU(), torch.nn.Linear(33, 2))
        opt = LARS(model.parameters(), lr=3.0, momentum=0.9, weight_decay=0.01)
        handle = StepInBackward(opt) if in_backward else None
        for step in range(3):
            opt.zero_grad()
            model(randn(5, 7, seed=step)).square().sum().backward()
            opt.step()
        assert opt.steps_applied == 3
        runs.append(list(model.parameters()))
        del handle
    assert all(map(same_bits, *runs))


def test_sgd_and_lars_do_not_take_each_others_state() -> None:
    """The momentum of one would be far too large or small for the other."""
    lars, sgd = LARS(models((3,)), lr=1.0, momentum=0.9), SGD(models((3,)), lr=1.0, momentum=0.9)
    for opt, other in ((lars, sgd), (sgd, lars)):
        with refused(opt, ValueError, "LARS", "load what the same class"):
            opt.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("trust_coefficient", -0.1, ValueError),
        ("trust_coefficient", float("nan"), ValueError),
        ("trust_coefficient", "0.1", TypeError),
        ("trust_coefficient", True, TypeError),
        ("eps", -1e-8, ValueError),
        ("eps", False, TypeError),
        ("trust_clip", "yes", TypeError),
        ("adapt", "no", TypeError),
        ("lr_in_momentum", "no", TypeError),
    ],
)
def test_options_out_of_range_are_refused(name, value, error) -> None:
    with pytest.raises(error, match=name):
        LARS(models((3,)), **{name: value})
    params = models((3,))
    opt = LARS(params, lr=1.0)
    train(opt, 1)
    set_grads(params, 1)
    before = copies(params)
    opt.param_groups[0][name] = value
    with pytest.raises(error, match=name):
        opt.step()
    assert all(map(same_bits, params, before))


def test_a_sparse_gradient_is_refused() -> None:
    embedding = torch.nn.Embedding(5, 3, sparse=True)
    opt = LARS(embedding.parameters(), lr=1.0)
    embedding(torch.tensor([1, 3])).sum().backward()
    before = copies(embedding.parameters())
    with pytest.raises(TypeError, match="sparse, and LARS"):
        opt.step()
    assert all(map(same_bits, embedding.parameters(), before))
    assert opt.steps_applied == 0


def test_shapes_of_all_kinds_go_where_they_can_be_updated() -> None:
    """Holes and complex numbers take the reference's way: the same step, the same count."""

    def params() -> list[Tensor]:
        return [
            parameter(torch.ones(4)),
            parameter(torch.ones(4, 2)[:, 0]),
            parameter(torch.ones(4, dtype=torch.complex64)),
        ]

    found = params()
    opt = LARS(found, lr=1.0, trust_coefficient=0.25)
    for _ in range(2):
        for p in found:
            p.grad = torch.full_like(p, 8.0)
        opt.step()
    assert opt.steps_applied == 2
    for p in found:
        torch.testing.assert_close(p.detach().real, torch.full((4,), 0.5625), rtol=1e-6, atol=0)


def test_what_lars_does_not_do_is_refused() -> None:
    with pytest.raises(ValueError, match="in a group of LARS"):
        LARS([{"params": models((3,)), "differentiable": True}])
