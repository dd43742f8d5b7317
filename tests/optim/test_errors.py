"""Errors: each names the value, the constraint and the remedy, before anything has moved."""

import math
from typing import Any

import pytest
import torch
from support import models, nothing_moves, parameter, randn, refused, set_grads, train
from torch import Tensor
from torch.optim import lr_scheduler

from fused_warmup import (
    SGD,
    RateLog,
    Schedule,
    convert,
    cosine,
    from_timm,
    get_schedule,
    linear_warmup,
    split_weight_decay,
)
from fused_warmup.schedules import Segment

SHAPES = ((5, 3), (7,), (2, 2))
NAMED = ("first", "second", "last")
BACKENDS = [None, "cpu", "reference"]
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)


def trained(backend: str | None = None, steps: int = 2, **options: Any) -> tuple[SGD, list[Tensor]]:
    """An optimizer in mid-training, with gradients for its next step."""
    params = models(*SHAPES)
    options = {"momentum": 0.9, "dampening": 0.1, "schedule": linear_warmup(4, 0.1), **options}
    opt = SGD(list(zip(NAMED, params, strict=True)), lr=0.1, backend=backend, **options)
    train(opt, steps)
    set_grads(params, 9)
    return opt, params


WRONG = [
    ("lr", -0.1, ["learning rate", "-0.1", "not negative"]),
    ("lr", float("nan"), ["learning rate", "nan", "finite"]),
    ("lr", float("inf"), ["learning rate", "inf", "finite"]),
    ("lr", torch.tensor(-0.1), ["learning rate", "-0.1", "not negative"]),
    ("lr", torch.tensor(float("nan"), dtype=torch.float64), ["learning rate", "nan", "finite"]),
    ("momentum", -0.5, ["momentum", "-0.5", "0 turns momentum off"]),
    ("momentum", float("nan"), ["momentum", "nan", "finite"]),
    ("weight_decay", -1, ["weight_decay", "-1", "0 turns weight decay off"]),
    ("weight_decay", float("inf"), ["weight_decay", "inf", "finite"]),
    ("dampening", float("nan"), ["dampening", "nan", "finite"]),
    ("nesterov", True, ["Nesterov", "dampening=0.1", "nesterov=False"]),
]
every_wrong = pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=lambda each: str(each))
# torch's loop steps with nesterov and dampening when they meet later: tests/groups/test_options.py.
every_wrong_later = pytest.mark.parametrize(("name", "value", "words"), WRONG[:-1], ids=str)


@every_wrong
def test_wrong_option_at_construction(name, value, words) -> None:
    options = {"momentum": 0.9, "dampening": 0.1, name: value}
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        SGD(models(*SHAPES), **options)
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        SGD([{"params": models(*SHAPES), **options}])
    assert all(word in str(caught.value) for word in words)


@every_backend
@every_wrong_later
def test_wrong_option_set_before_a_step(backend, name, value, words) -> None:
    opt, _ = trained(backend)
    right = opt.param_groups[0][name]
    opt.param_groups[0][name] = value
    with refused(opt, ValueError, *words):
        opt.step()
    opt.param_groups[0][name] = right
    opt.step()
    assert opt.steps_applied == 3


@every_wrong
def test_wrong_group_is_not_added(name, value, words) -> None:
    opt, _ = trained()
    added = {"params": [parameter(torch.ones(2))], name: value}
    with refused(opt, ValueError, *words):
        opt.add_param_group(added)
    assert len(opt.param_groups) == 1
    opt.step()


@pytest.mark.parametrize("value", ["fast", None, [0.1], 1j])
@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "dampening"])
def test_options_of_the_wrong_type(name, value) -> None:
    with pytest.raises(TypeError, match="must be a number: pass a float") as caught:
        SGD(models(*SHAPES), **{name: value})
    assert repr(value) in str(caught.value)


def test_tensor_lr_of_the_wrong_kind() -> None:
    with pytest.raises(ValueError, match=r"1-element, got shape \(2,\): use one parameter group"):
        SGD(models(*SHAPES), lr=torch.tensor([0.1, 0.2]))
    with pytest.raises(TypeError, match=r"floating dtype, got torch.int64: cast it"):
        SGD(models(*SHAPES), lr=torch.tensor(1))


def test_schedule_with_a_gap() -> None:
    with pytest.raises(ValueError, match=r"a gap.*got start=3: put a segment before it"):
        Schedule((Segment(start=3),))
    plain = {"segments": [{"kind": "poly", "start": 3}], "steps": None}
    with pytest.raises(ValueError, match=r"a gap.*got start=3: put a segment before it"):
        SGD(models(*SHAPES), schedule=plain)


@every_backend
def test_no_schedule_given_before_a_step(backend) -> None:
    opt, _ = trained(backend)
    right = opt.param_groups[0]["schedule"]
    opt.param_groups[0]["schedule"] = {"segments": [{"kind": "poly", "start": 3}], "steps": None}
    with refused(opt, ValueError, "a gap", "start=3"):
        opt.step()
    opt.param_groups[0]["schedule"] = lambda t: 1.0
    with pytest.raises(
        TypeError, match=r"it must be a Schedule or None: sample it, .*from_callable"
    ):
        opt.step()
    opt.param_groups[0]["schedule"] = right
    opt.step()
    assert opt.steps_applied == 3


def test_no_schedule_at_construction() -> None:
    for wrong in (0.5, lambda t: 1.0, [1.0, 0.5]):
        with pytest.raises(TypeError, match="it must be a Schedule or None") as caught:
            SGD(models(*SHAPES), schedule=wrong)
        assert type(wrong).__name__ in str(caught.value)


def schedule_of_before() -> object:
    return type("Schedule", (), {})()


def of_timm() -> object:
    return type("CosineLRScheduler", (), {"__module__": "timm.scheduler.cosine_lr"})()


@pytest.mark.parametrize(
    ("wrong", "advised"),
    [
        (linear_warmup, r"call what builds it, schedules.linear_warmup\(...\)"),
        ("cosine", r"call what builds it, schedules.cosine\(...\)"),
        ("linear_warmup(3)", r"call what builds it, schedules.linear_warmup\(...\)"),
        (Schedule, "build one with fused_warmup.schedules"),
        (lr_scheduler.LinearLR, r"fused_warmup.from_torch\(scheduler\), .*convert\(opt, "),
        (lr_scheduler.LinearLR(torch.optim.SGD(models((2,)))), r"from_torch\(scheduler\)"),
        (math.sqrt, r"sample it, schedules.from_callable\(function, steps\)"),
        (500, r"a warm-up of as many steps is schedules.linear_warmup\(500\)"),
        (True, "build one with fused_warmup.schedules"),
        ([linear_warmup(2), cosine(3)], r"join them, first.then\(second\)"),
        (torch.ones(3), r"make a table of it, schedules.table\(values\)"),
        (of_timm(), r"pass fused_warmup.from_timm\(scheduler\)"),
        (schedule_of_before(), "imported before this one, build it again"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_what_is_no_schedule_is_told_what_to_pass(wrong, advised) -> None:
    with pytest.raises((TypeError, ValueError), match=advised):
        SGD(models(*SHAPES), schedule=wrong)
    with pytest.raises(TypeError, match=advised):
        linear_warmup(3).then(wrong)


def test_other_things_in_the_place_of_what_is_needed() -> None:
    opt = SGD(models(*SHAPES), schedule=linear_warmup(3))
    with pytest.raises(TypeError, match=r"got a Adam, .*: pass an optimizer of fused_warmup, or"):
        RateLog(torch.optim.Adam(models((2,))))  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"state dict is a str, .*, or torch.load\(path\) of a file"
    ):
        opt.load_state_dict("checkpoint.pt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"its index, got '0': take it from opt.param_groups"):
        opt.restart_schedule("0")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"torch.nn.modules.linear.Linear.*pass the module itself"):
        split_weight_decay(torch.nn.Linear, 1e-4)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^'cosine': missing 1 .* 'num_training_steps', see"):
        get_schedule("cosine", 10)
    with pytest.raises(TypeError, match=r"got an optimizer, .*: leave it out, as in get_schedule"):
        get_schedule("cosine", opt, 10, 100)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="num_warmup_steps must be an integer, got '10'"):
        get_schedule("cosine", "10", 100)  # type: ignore[arg-type]
    old = torch.optim.SGD(models((2,)))
    pair = (lr_scheduler.StepLR(old, 3), 90)
    with pytest.raises(TypeError, match=r"got 90, .*create_scheduler_v2 returns pass the first"):
        convert(old, pair)
    with pytest.raises(TypeError, match="create_scheduler_v2 returns pass the first"):
        from_timm(pair)


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match=r"backend='gpu' is unknown.*'cuda', .*pass one of these"):
        SGD(models(*SHAPES), backend="gpu")


def test_complex_parameter_on_the_native_backend() -> None:
    params = [*models(*SHAPES), parameter(torch.ones(2, dtype=torch.complex64))]
    with pytest.raises(TypeError, match=r"shape \(2,\) is torch.complex64.*pass backend=None"):
        SGD(params, backend="cpu")
    opt, _ = trained("cpu", dampening=0)
    with refused(opt, TypeError, "'z'", "torch.complex64", "needs float32", "backend=None"):
        opt.add_param_group({"params": [("z", params[-1])]})
    assert len(opt.param_groups) == 1
    assert SGD(params).param_groups  # the reference takes it


def test_parameter_with_holes_on_the_native_backend() -> None:
    p = parameter(torch.ones(4, 4)[:, ::2])
    with pytest.raises(TypeError, match=r"strides \(4, 2\), with holes.*needs dense memory"):
        SGD([p], backend="cpu")


def test_parameter_elsewhere_than_the_backend() -> None:
    model = torch.nn.Linear(2, 2)
    opt = SGD(model.parameters(), backend="cpu")
    assert opt.backend == "cpu"
    meta = SGD([parameter(torch.ones(3, device="meta"))], backend="cpu")  # may still be moved
    assert meta.steps_applied == 0


def sparse(shape: tuple[int, ...]) -> Tensor:
    index = torch.zeros(1, 1, dtype=torch.int64)
    return torch.sparse_coo_tensor(
        index, randn(1, *shape[1:], seed=1), shape, check_invariants=True
    )


# Before 2.13, torch warns so even of the tensor whose invariants it is asked to check.
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
def test_sparse_gradient() -> None:
    opt, params = trained("cpu")
    dense, params[-1].grad = params[-1].grad, sparse(SHAPES[-1])
    words = ("'last'", "torch.sparse_coo", "needs torch.strided", "sparse=False")
    with pytest.raises(TypeError) as caught:
        opt.step()
    assert all(word in str(caught.value) for word in words)
    params[-1].grad = dense
    opt.step()
    assert opt.steps_applied == 3

    for backend in (None, "reference"):
        opt, params = trained(backend, weight_decay=0.5)
        params[-1].grad = sparse(SHAPES[-1])
        before = [p.detach().clone() for p in params]
        with pytest.raises(ValueError, match=r"is sparse and weight_decay is 0.5.*weight_decay=0"):
            opt.step()
        assert all(map(torch.equal, params, before))


class Haunted(torch.nn.Parameter):
    """A parameter whose gradient claims to be elsewhere; torch itself lets none be assigned."""

    ghost: Tensor | None = None

    @property
    def grad(self) -> Tensor | None:
        return super().grad if self.ghost is None else self.ghost

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        torch.Tensor.grad.__set__(self, value)


@every_backend
def test_gradient_elsewhere(backend) -> None:
    params = [*models((5, 3), (7,)), Haunted(randn(2, 2, seed=3))]
    opt = SGD(list(zip(NAMED, params, strict=True)), lr=0.1, momentum=0.9, backend=backend)
    train(opt, 2)
    params[-1].ghost = torch.ones(2, 2, device="meta")
    expected = [p.detach().clone() for p in params]
    words = "'last' is on meta, the parameter is on cpu, both must be on one device: .*zero_grad"
    with pytest.raises(ValueError, match=words):
        opt.step()
    assert all(map(torch.equal, params, expected))
    assert opt.steps_applied == 2
    params[-1].ghost = None
    opt.step()
    assert opt.steps_applied == 3


@every_backend
def test_gradient_of_another_shape(backend) -> None:
    opt, params = trained(backend)
    grad = params[-1].grad
    params[-1].data = params[-1].data.reshape(4)
    params[-1].grad = torch.ones(4)
    params[-1].data = params[-1].data.reshape(2, 2)
    with refused(opt, ValueError, "'last'", "shape (4,)", "zero_grad()"):
        opt.step()
    params[-1].grad = grad
    opt.step()


@every_backend
def test_changed_dtype(backend) -> None:
    opt, params = trained(backend)
    kept = params[-1].data
    params[-1].grad = None
    params[-1].data = kept.double()
    params[-1].grad = torch.ones(SHAPES[-1], dtype=torch.float64)
    words = ("shape (2, 2) is torch.float64 now", "torch.float32", "before its first step")
    with refused(opt, TypeError, *words):
        opt.step()
    params[-1].grad = None
    params[-1].data = kept
    set_grads(params, 9)
    opt.step()
    assert opt.steps_applied == 3


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", None])
def test_count_that_is_none(value) -> None:
    opt, _ = trained()
    with (
        nothing_moves(opt),
        pytest.raises(ValueError, match=r"must be an int of at least 0: pass the number") as caught,
    ):
        opt.steps_applied = value
    assert f"steps_applied={value!r}" in str(caught.value)


def test_hook_that_returns_nonsense() -> None:
    opt, _ = trained()
    opt.register_step_pre_hook(lambda *_: (1, 2, 3))
    with refused(opt, RuntimeError, "must return None or a tuple", "(1, 2, 3)"):
        opt.step()


@pytest.mark.parametrize("name", ["schedule", "momentum_schedule"])
def test_a_schedule_is_no_attribute_of_the_optimizer(name: str) -> None:
    """Set there, it changed nothing."""
    opt = SGD(models((3,)), lr=0.1)
    with pytest.raises(AttributeError, match=rf"opt.param_groups\[i\]\['{name}'\]"):
        setattr(opt, name, linear_warmup(4))
    assert not hasattr(opt, name)
