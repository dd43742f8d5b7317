"""Steps that take the one native call, and what must not send them elsewhere."""

import gc

import numpy as np
import pytest
import torch
from support import models, parameter, randn, same_bits, set_grads, train

import fused_warmup
from fused_warmup import SGD, linear_warmup
from fused_warmup._step.plan import Plan

SHAPES = ((5,), (70,), (3, 4))


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch):
    """Turns a step that leaves the fast path into a failure; to be called after the first step."""
    from fused_warmup import _C

    assert _C.reads_libtorch()

    def forbid() -> None:
        def slow(*_):
            pytest.fail("the step took the careful path")

        monkeypatch.setattr(Plan, "run_carefully", slow)

    return forbid


@pytest.mark.parametrize(
    "options",
    [
        {"lr": np.float32(0.25)},
        {"lr": np.float64(0.25)},
        {"lr": np.array(0.25)},
        {"lr": np.int64(2)},
        {"lr": torch.tensor(0.25)},
        {"lr": torch.tensor(0.25, dtype=torch.float64)},
        {"lr": torch.tensor(0.3, dtype=torch.bfloat16)},
        {"lr": torch.tensor([0.3], dtype=torch.float16)},
        {"momentum": np.float16(0.5)},
        {"momentum": np.int32(0)},
        {"weight_decay": torch.tensor(0.125)},
        {"weight_decay": torch.tensor(0.1, dtype=torch.bfloat16)},
        {"dampening": np.array(0.5, dtype=np.float32)},
        {"nesterov": 1},
        {"nesterov": np.bool_(True)},
        {"maximize": np.bool_(False)},
        {"maximize": 1},
    ],
    ids=str,
)
def test_numbers_of_any_kind(native, options) -> None:
    ours, theirs = models(*SHAPES), models(*SHAPES)
    plain = {k: v.item() if hasattr(v, "item") else v for k, v in options.items()}
    base = {"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "weight_decay": 0.01}
    opt = SGD(ours, **base)
    expected = torch.optim.SGD(theirs, **base, foreach=False)
    train(opt, 1)
    train(expected, 1)
    opt.param_groups[0].update(options)
    expected.param_groups[0].update(plain)
    native()
    for step in (1, 2):
        for params, each in ((ours, opt), (theirs, expected)):
            set_grads(params, step)
            each.step()
        assert all(map(same_bits, ours, theirs))


def test_numbers_are_read_anew_each_step(native) -> None:
    p = parameter(torch.zeros(3))
    rate = np.array(1.0)
    opt = SGD([p], lr=rate)
    train(opt, 1)
    native()
    for value in (2.0, 0.5):
        rate[...] = value
        before = p.detach().clone()
        p.grad = torch.ones(3)
        opt.step()
        assert torch.equal(before - value, p.detach())


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_memory_that_moves(native, momentum) -> None:
    params = models(*SHAPES)
    opt = SGD(params, lr=0.1, momentum=momentum)
    train(opt, 1)
    native()
    for step in range(1, 4):
        params[step % 3].data = params[step % 3].data.clone()
        for buffer in (opt.state[p].get("momentum_buffer") for p in params):
            if buffer is not None:
                buffer.data = buffer.data.clone()
        train(opt, 1, first=step)


def test_a_gradient_from_a_property_of_a_subclass(native) -> None:
    class Negated(torch.nn.Parameter):
        @property
        def grad(self):
            gc.collect()
            return None if self.kept is None else -self.kept

        @grad.setter
        def grad(self, value):
            self.kept = value

    p = Negated(torch.zeros(4))
    p.kept = None
    opt = SGD([p], lr=1.0)
    p.grad = torch.ones(4)
    opt.step()
    native()
    p.grad = torch.full((4,), 2.0)
    opt.step()
    assert p.tolist() == [3.0] * 4


def test_a_step_from_inside_a_step_is_refused() -> None:
    class Eager(torch.nn.Parameter):
        @property
        def grad(self):
            opt.step()

    plain, eager = parameter(torch.ones(3)), Eager(torch.ones(3))
    opt = SGD([plain, eager], lr=1.0)
    plain.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"step\(\) was called from inside.*take the call out"):
        opt.step()
    assert plain.tolist() == [1.0] * 3
    assert opt.steps_applied == 0


NEGATIVE = {
    "real": lambda x: torch._neg_view(-x),
    "imaginary part of a conjugate": lambda x: torch.complex(x, -x).conj().imag,
    "one element": lambda x: torch.complex(x[:1], -x[:1]).conj().imag,
}


@pytest.mark.parametrize("backend", [None, "cpu", "reference"], ids=str)
@pytest.mark.parametrize("make", NEGATIVE.values(), ids=NEGATIVE)
def test_a_negated_gradient_has_its_sign(make, backend) -> None:
    grad = make(randn(64, seed=3))
    assert grad.is_neg()
    ours, theirs = parameter(torch.zeros(grad.shape)), parameter(torch.zeros(grad.shape))
    opt = SGD([ours], lr=0.5, momentum=0.9, backend=backend)
    expected = torch.optim.SGD([theirs], lr=0.5, momentum=0.9, foreach=False)
    for _ in range(3):
        ours.grad = theirs.grad = grad
        opt.step()
        expected.step()
    assert same_bits(ours, theirs)


@pytest.mark.parametrize("backend", [None, "cpu", "reference"], ids=str)
def test_a_gradient_of_torchs_symbolic_zeros(backend) -> None:
    p = parameter(torch.ones(4))
    opt = SGD([p], lr=1.0, weight_decay=0.5, backend=backend)
    for expected in (0.5, 0.25):
        p.grad = torch._efficientzerotensor(4)
        opt.step()
        assert p.tolist() == [expected] * 4


@pytest.mark.parametrize("backend", [None, "reference"], ids=str)
def test_a_differentiable_group_of_leaves_moves_no_other(backend) -> None:
    first, last = parameter(torch.ones(3)), parameter(torch.ones(3))
    opt = SGD([{"params": [first]}, {"params": [last]}], lr=1.0, backend=backend)
    opt.param_groups[1]["differentiable"] = True
    first.grad, last.grad = torch.ones(3), torch.ones(3)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"leaf that requires grad.*differentiable=False"):
            opt.step()
    assert first.tolist() == last.tolist() == [1.0] * 3
    opt.param_groups[1]["differentiable"] = False
    opt.step()
    assert first.tolist() == last.tolist() == [0.0] * 3
    assert opt.steps_applied == 1


@pytest.mark.parametrize(
    ("expanded", "backend"),
    [(False, None), (False, "cpu"), (False, "reference"), (True, None), (True, "reference")],
)
def test_a_parameter_that_cannot_be_written_moves_no_other(expanded, backend) -> None:
    first = parameter(torch.ones(3))
    with torch.inference_mode(not expanded):
        last = torch.ones(1).expand(3) if expanded else torch.ones(3)
    opt = SGD([first, last], lr=1.0, momentum=0.9, backend=backend)
    first.grad = torch.ones(3)
    last.grad = torch.ones(3)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"inference tensor.*clone|strides.*use a clone"):
            opt.step()
    assert first.tolist() == [1.0] * 3
    assert opt.steps_applied == 0


@pytest.mark.parametrize("how", ["dtype", "layout", "device"])
def test_a_buffer_left_behind_without_momentum(how) -> None:
    """What momentum 0 does not read may be of another dtype or layout."""

    def change(p):
        if how == "dtype":
            p.data = p.data.double()
        if how == "layout":
            p.data = p.data.to(memory_format=torch.channels_last)

    runs = []
    for opt_class, options in ((SGD, {}), (torch.optim.SGD, {"foreach": False})):
        (p,) = models((2, 3, 4, 4))
        opt = opt_class([p], lr=0.1, momentum=0.9, **options)
        train(opt, 2)
        opt.param_groups[0]["momentum"] = 0.0
        change(p)
        p.grad = None
        if how == "device" and opt_class is SGD:
            opt.state[p]["momentum_buffer"].data = torch.zeros(2, 3, 4, 4)
        train(opt, 2, first=2)
        runs.append(p)
    assert same_bits(*runs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32])
def test_a_count_that_was_cast_in_place_goes_on(dtype) -> None:
    """``v.data = v.data.float()`` over a whole state."""
    (p,) = models((5,))
    opt = SGD([p], lr=1.0, momentum=0.9, schedule=linear_warmup(8))
    train(opt, 3)
    for value in opt.state[p].values():
        if value.dtype == torch.int64:
            value.data = value.data.to(dtype)
    opt.lr_tensor().data = opt.lr_tensor().data.to(dtype)
    train(opt, 1, first=3)
    assert (opt.steps_applied, opt.get_last_lr()) == (4, [0.375])
    assert opt.state[p]["step"].dtype == torch.int64


def test_a_count_that_was_lost_is_asked_for() -> None:
    (p,) = models((5,))
    opt = SGD([p], lr=1.0, schedule=linear_warmup(8))
    train(opt, 3)
    before = p.detach().clone()
    opt.state[p]["step"].set_()
    set_grads([p], 3)
    words = r"step count of.* shape \(0,\) without a number.*set steps_applied"
    with pytest.raises(TypeError, match=words):
        opt.step()
    assert same_bits(p, before)
    opt.steps_applied = 3
    opt.step()
    assert (opt.steps_applied, opt.get_last_lr()) == (4, [0.375])


@pytest.mark.parametrize("how", ["share_memory_", "clone", "float", "empty"])
def test_a_first_step_mark_that_moved(how) -> None:
    params, expected = models((5,), (4,)), models((5,), (4,))
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    ours, theirs = SGD(params, **options), torch.optim.SGD(expected, **options, foreach=False)
    for opt in (ours, theirs):
        train(opt, 2)
    for p in params:
        mark = ours.state[p]["first_step"]
        if how == "share_memory_":
            mark.share_memory_()
        elif how == "clone":
            mark.data = mark.data.clone()
        elif how == "float":
            mark.data = mark.data.float()
        else:
            mark.set_()
    for opt in (ours, theirs):
        train(opt, 2, first=2)
    assert all(map(same_bits, params, expected))


def test_the_interface_is_found_on_this_torch() -> None:
    assert fused_warmup._C.reads_libtorch()
    assert fused_warmup._C.reads_torch_words()
