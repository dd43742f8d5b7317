"""Models that change dtype, layout or device after the optimizer was built; stale tensors."""

import pytest
import torch
from support import models, parameter, randn, same_bits, set_grads, train

from fused_warmup import SGD, linear_warmup
from fused_warmup._step.counters import Counters

BACKENDS = [None, "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)


@every_backend
def test_a_stale_saved_tensor_is_noticed(backend) -> None:
    """Kernels write through raw pointers; autograd must see it all the same."""
    p = parameter(torch.ones(3))
    opt = SGD([p], lr=0.1, backend=backend)
    for _ in range(2):
        loss = (p**2).sum()
        p.grad = torch.ones(3)
        version = p._version
        opt.step()
        assert p._version > version
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@every_backend
def test_a_step_that_changes_nothing_spoils_no_graph(backend) -> None:
    p, q = parameter(torch.ones(3)), parameter(torch.ones(3))
    opt = SGD([p, q], lr=0.1, backend=backend)
    loss = (p**2).sum() + (q**2).sum()
    opt.step()
    p.grad = torch.ones(3)
    opt.found_inf = torch.tensor(1.0)
    opt.step()
    assert (p._version, q._version) == (0, 0)
    opt.found_inf = None
    loss.backward(retain_graph=True)
    q.grad = None
    opt.step()
    assert q._version == 0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@every_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtype_changes_before_the_first_step(backend, dtype) -> None:
    results = []
    for late in (True, False):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        if not late:
            model.to(dtype)
        opt = SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5, backend=backend)
        if late:
            opt.step()  # without gradients: not a step
            model.to(dtype)
        train(opt, 3)
        assert opt.state[model.weight]["momentum_buffer"].dtype == dtype
        results.append(model)
    for p, q in zip(*(model.parameters() for model in results), strict=True):
        assert same_bits(p, q)


def test_a_loaded_momentum_is_not_dropped_with_the_old_dtype() -> None:
    opt = SGD(models((3,)), lr=0.1, momentum=0.9)
    train(opt, 1)
    model = torch.nn.ParameterList(models((3,)))
    fresh = SGD(model.parameters(), lr=0.1, momentum=0.9)
    fresh.load_state_dict(opt.state_dict())
    model.half()
    set_grads(list(model), 1)
    with pytest.raises(TypeError, match="build a new optimizer and load"):
        fresh.step()


@every_backend
@pytest.mark.parametrize("steps", [0, 2])
def test_memory_format_changes(backend, steps) -> None:
    """model.to(memory_format=...) lays the same parameter out otherwise; momentum follows."""
    model = torch.nn.Conv2d(3, 4, 3)
    twin = torch.nn.Conv2d(3, 4, 3)
    twin.load_state_dict(model.state_dict())
    ours = SGD(model.parameters(), lr=0.1, momentum=0.9, backend=backend)
    torchs = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, foreach=False)
    train(torchs, steps + 3)
    train(ours, steps)
    model.to(memory_format=torch.channels_last)
    train(ours, 1, first=steps)
    model.to(memory_format=torch.contiguous_format)
    train(ours, 1, first=steps + 1)
    model.to(memory_format=torch.channels_last)
    train(ours, 1, first=steps + 2)
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert same_bits(p, q)


@every_backend
def test_built_on_meta_and_materialised(backend) -> None:
    with torch.device("meta"):
        model = torch.nn.Linear(3, 2)
        options = {"momentum": 0.9, "dampening": 0.1, "schedule": linear_warmup(4, count_from=1)}
        opt = SGD(model.parameters(), lr=1.0, backend=backend, **options)
        assert (opt.steps_applied, opt.get_last_lr()) == (0, [0.25])
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.double()
        model.to_empty(device="cpu")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    assert opt.param_groups[0]["params"][0] is model.weight
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(1.0)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    opt.step()
    assert model.weight.tolist() == [[0.75] * 3] * 2
    assert opt.steps_applied == 1


def test_under_another_default_device_and_dtype() -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            p = parameter(randn(5, seed=1))
            options = {"momentum": 0.9, "dampening": 0.2, "schedule": linear_warmup(3, 0.1)}
            opts = [SGD([p], lr=0.1, backend=backend, **options) for backend in BACKENDS]
            with torch.device("meta"):
                for opt in opts:
                    p.grad = torch.full((5,), 0.5, device="cpu", dtype=torch.float32)
                    opt.step()
                    opt.load_state_dict(opt.state_dict())
                    opt.steps_applied = 2
                    opt.step()
                    assert opt.steps_applied == 3
                    assert opt.lr_tensor().dtype == torch.float64
            results.append(p)
        finally:
            torch.set_default_dtype(torch.float32)
    assert same_bits(*results)


def test_a_device_that_parameters_have_left_does_not_keep_the_count() -> None:
    """Its counter is not advanced any more, so its value must not come back."""
    counters, params = Counters(), models((2,), (3,))
    left = torch.device("cuda", 0)
    counters.by_device[left] = torch.tensor(3)
    state = {p: {"step": counters.of(torch.device("cpu"))} for p in params}
    counters.of(torch.device("cpu")).fill_(8)
    counters.tie(state, params)
    assert list(counters.by_device) == [torch.device("cpu")]
    assert counters.value() == 8


def test_wrapped_gradients_find_the_reference() -> None:
    """A tensor subclass has no memory of its own for a kernel to read."""
    from torch.testing._internal.two_tensor import TwoTensor

    p = parameter(torch.ones(3))
    opt = SGD([p], lr=0.5)
    p.grad = torch.ones(3)
    opt.step()
    grad = TwoTensor(torch.ones(3), torch.ones(3))
    p.grad = grad
    opt.step()
    assert opt.steps_applied == 2
    assert p.tolist() != [0.5] * 3
    q = parameter(torch.ones(3))
    native = SGD([q], lr=0.5, backend="cpu")
    q.grad = grad
    with pytest.raises(TypeError, match="is a TwoTensor, backend='cpu' needs a plain tensor"):
        native.step()


@every_backend
@pytest.mark.parametrize("what", ["parameter", "momentum"])
def test_tensors_swapped_underneath_their_objects(backend, what) -> None:
    """By torch.utils.swap_tensors, with which modules may convert: same objects, other tensors."""
    mine, theirs = models((5,), (70,), (3,)), models((5,), (70,), (3,))
    ours = SGD(mine, lr=0.1, momentum=0.9, backend=backend)
    torchs = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, foreach=False)
    old = []
    for step in range(4):
        for params, opt in ((mine, ours), (theirs, torchs)):
            set_grads(params, step)
            opt.step()
            for p in params:
                tensor = p if what == "parameter" else opt.state[p]["momentum_buffer"]
                tensor.grad = None
                other = tensor.detach().clone().mul_(0.5).requires_grad_(tensor.requires_grad)
                torch.utils.swap_tensors(tensor, other)
                with torch.no_grad():
                    old.append(other.fill_(torch.nan))  # not to be touched again
        assert all(map(same_bits, mine, theirs))
    assert all(each.isnan().all() for each in old)
