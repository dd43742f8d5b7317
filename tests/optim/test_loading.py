"""Loads are all or nothing, whatever a state dict holds; what is kept stays where it is."""

import copy
import gc
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from support import copies, models, parameter, randn, refused, same_bits, set_grads, train
from test_state_dict import OPTIONS, SHAPES, make, params_of, through_file
from torch import Tensor

from fused_warmup import SGD, linear_warmup
from fused_warmup._step.counters import MAX_STEPS
from fused_warmup._step.plan import Plan

FIRST, MIDDLE, LAST = range(3)


# -- what is refused changes nothing -----------------------------------------------------------


def each_step(value: Any):
    def spoil(state_dict: dict[str, Any]) -> None:
        for entry in state_dict["state"].values():
            entry["step"] = value

    return spoil


def one(name: str, value: Any, key: int = LAST):
    """Spoil one parameter's state, by default the last: the others are right."""

    def spoil(state_dict: dict[str, Any]) -> None:
        state_dict["state"][key][name] = value

    return spoil


def option(name: str, value: Any):
    def spoil(state_dict: dict[str, Any]) -> None:
        state_dict["param_groups"][-1][name] = value

    return spoil


def without(name: str):
    def spoil(state_dict: dict[str, Any]) -> None:
        del state_dict["param_groups"][-1][name]

    return spoil


def entry_that_is_no_dict(state_dict: dict[str, Any]) -> None:
    state_dict["state"][LAST] = torch.zeros(())


def wave(state_dict: dict[str, Any]) -> None:
    """A cosine of angles beyond float64 from its second step on, or of none at all."""
    wave = {"kind": "cos", "length": 1.0, "m": 1e308, "past_end": "continue"}
    plain = {"segments": [wave], "steps": None}
    state_dict["param_groups"][-1]["schedule"] = json.dumps(plain)


def momentum_wave(state_dict: dict[str, Any]) -> None:
    wave(state_dict)
    group = state_dict["param_groups"][-1]
    group["momentum_schedule"], group["schedule"] = group["schedule"], None


WHOLE = "must be a whole number: load"
RANGE = "at least 0 and at most"
SPOILED = {
    "step 2**63": (each_step(2**63), ValueError, RANGE),
    "step 2**63 - 1": (each_step(torch.tensor(2**63 - 1)), ValueError, RANGE),
    "step 2**64 in float": (each_step(2.0**64), ValueError, RANGE),
    "step just too high": (each_step(MAX_STEPS + 1), ValueError, RANGE),
    "step infinite": (each_step(math.inf), ValueError, WHOLE),
    "step NaN": (each_step(torch.tensor(math.nan)), ValueError, WHOLE),
    "step 2.5": (each_step(2.5), ValueError, WHOLE),
    "step of two": (each_step(torch.tensor([3, 3])), TypeError, WHOLE),
    "step of none": (each_step(torch.empty(0)), TypeError, WHOLE),
    "step on meta": (each_step(torch.tensor(3, device="meta")), TypeError, WHOLE),
    "step as text": (each_step("3"), TypeError, WHOLE),
    "step as a flag": (each_step(True), TypeError, WHOLE),
    "step complex": (each_step(torch.tensor(3 + 0j)), TypeError, WHOLE),
    "last step": (one("step", 2**63), ValueError, RANGE),
    "sparse of another shape": (
        one("momentum_buffer", torch.zeros(4).to_sparse()),
        ValueError,
        "shape (4,)",
    ),
    "complex momentum": (
        one("momentum_buffer", torch.zeros((), dtype=torch.complex64)),
        TypeError,
        "complex64",
    ),
    "momentum on meta": (
        one("momentum_buffer", torch.zeros((), device="meta")),
        ValueError,
        "holds nothing",
    ),
    "mark on meta": (one("first_step", torch.tensor(0, device="meta")), ValueError, "meta"),
    "mark complex": (one("first_step", torch.tensor(0j)), TypeError, "complex64"),
    "no dict": (entry_that_is_no_dict, TypeError, "must be a dict"),
    "no lr": (without("lr"), ValueError, "has no 'lr'"),
    "no momentum": (without("momentum"), ValueError, "has no 'momentum'"),
    "wave": (wave, ValueError, ""),
    "momentum wave": (momentum_wave, ValueError, ""),
    "wrong option": (option("weight_decay", -1.0), ValueError, "-1.0"),
}


@pytest.mark.parametrize(("spoil", "error", "words"), SPOILED.values(), ids=SPOILED.keys())
def test_what_is_refused_changes_nothing(spoil, error, words) -> None:
    saver = SGD(_two_groups(), **OPTIONS)
    train(saver, 3)
    other = SGD(_two_groups(), **OPTIONS)
    train(other, 1)
    plan, defaults = other._plan, copy.deepcopy(other.defaults)
    state_dict = copy.deepcopy(saver.state_dict())
    spoil(state_dict)
    with refused(other, error, words):
        other.load_state_dict(state_dict)
    assert other._plan is plan
    assert repr(other.defaults) == repr(defaults)
    train(other, 1)
    assert other.steps_applied == 2


def _two_groups() -> list[dict[str, Any]]:
    *first, last = models(*SHAPES)
    return [{"params": first}, {"params": [last], "lr": 0.3}]


@pytest.mark.parametrize("key", ["state", "param_groups"])
def test_no_state_dict(key: str) -> None:
    opt = make()
    state_dict = dict(opt.state_dict())
    wrong = [({**state_dict, key: 3}, TypeError, "int"), ({"opt": state_dict}, KeyError, "'opt'")]
    del state_dict[key]
    for each, error, words in [*wrong, (state_dict, KeyError, repr(key))]:
        with refused(opt, error, words, "state_dict() gave"):
            opt.load_state_dict(each)
    with refused(opt, TypeError, "no dict with 'params'"):
        opt.load_state_dict({"state": {}, "param_groups": [[0, 1, 2]]})


class Failing(Tensor):
    """Fails as memory that has run out would, whatever it is asked for."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("to", "copy_", "clone"):
            raise torch.OutOfMemoryError("no memory left")
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("key", [FIRST, LAST])
@pytest.mark.parametrize("name", ["momentum_buffer", "first_step", "note"])
def test_a_copy_that_fails_changes_nothing(name: str, key: int) -> None:
    opt, other = make(), make()
    train(opt, 3)
    train(other, 1)
    state_dict = copy.deepcopy(opt.state_dict())
    entry = state_dict["state"][key]
    entry[name] = entry.get(name, torch.ones(3)).as_subclass(Failing)
    with refused(other, torch.OutOfMemoryError, "no memory"):
        other.load_state_dict(state_dict)
    train(other, 1)


def test_a_warning_that_is_an_error_changes_nothing() -> None:
    opt, other = make(schedule=linear_warmup(4)), make()
    train(opt, 3)
    train(other, 1)
    with refused(other, UserWarning, "is not the one given in code"):
        other.load_state_dict(opt.state_dict())


def test_wrong_counts_by_a_loader_stop_a_step() -> None:
    """ZeRO puts tensors into the state itself."""
    opt = make()
    train(opt, 2)
    for p in params_of(opt):
        opt.state[p]["step"] = torch.tensor(float(2**63))
    before = copies(params_of(opt))
    with pytest.raises(ValueError, match="at least 0 and at most"):
        train(opt, 1)
    assert all(map(same_bits, params_of(opt), before))
    for p in params_of(opt):
        opt.state[p]["step"] = 7
    train(opt, 1)
    assert opt.steps_applied == 8


@pytest.mark.parametrize("count", [MAX_STEPS, MAX_STEPS - 1])
def test_the_highest_counts(count: int) -> None:
    opt, other = make(), make()
    opt.steps_applied = count
    other.load_state_dict(through_file(opt.state_dict()))
    train(other, 2)
    assert other.steps_applied == count + 2


def test_counts_of_numpy_are_set() -> None:
    opt = make()
    opt.steps_applied = np.int64(3)
    assert (opt.steps_applied, type(opt.steps_applied)) == (3, int)


@pytest.mark.parametrize("count", [MAX_STEPS + 1, 2**63, 10**30])
def test_counts_that_are_too_high_are_not_set(count: int) -> None:
    opt = make()
    train(opt, 2)
    with refused(opt, ValueError, str(count), "must be an int of at most", "pass the number"):
        opt.steps_applied = count


def test_a_group_that_cannot_be_added_leaves_nothing() -> None:
    opt = make()
    train(opt, 2)

    class Unready(torch.nn.Parameter):
        """Has no memory to give."""

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.zeros_like:
                raise torch.OutOfMemoryError("no memory left")
            return super().__torch_function__(func, types, args, kwargs or {})

    fine, unready = parameter(torch.ones(2)), Unready(torch.ones(3))
    with refused(opt, torch.OutOfMemoryError, "no memory"):
        opt.add_param_group({"params": [fine, unready]})
    assert len(opt.param_groups) == 1
    assert fine not in opt.state
    opt.add_param_group({"params": [fine]})
    train(opt, 1)


# -- what a load brings ------------------------------------------------------------------------


def embedding(cls: type, **options: Any) -> tuple[torch.nn.Embedding, Any]:
    torch.manual_seed(0)
    net = torch.nn.Embedding(5, 3, sparse=True)
    return net, cls(net.parameters(), lr=0.1, momentum=0.9, **options)


def look_up(net: torch.nn.Embedding, opt: Any, steps: int) -> None:
    for i in range(steps):
        opt.zero_grad()
        net(torch.tensor([1, 3, 1 + i])).pow(2).sum().backward()
        opt.step()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize("dampening", [0.0, 0.5])
def test_sparse_momentum_of_torchs(dampening: float) -> None:
    """Sparse, too, under sparse gradients; of the rows that it leaves out it is zero."""
    net, theirs = embedding(torch.optim.SGD, dampening=dampening)
    look_up(net, theirs, 2)
    assert theirs.state[net.weight]["momentum_buffer"].is_sparse
    mine, ours = embedding(SGD, dampening=dampening)
    look_up(mine, ours, 1)
    kept = ours.state[mine.weight]["momentum_buffer"]
    ours.load_state_dict(through_file(theirs.state_dict()))
    assert ours.state[mine.weight]["momentum_buffer"] is kept
    assert same_bits(kept, theirs.state[net.weight]["momentum_buffer"].to_dense())
    mine.load_state_dict(net.state_dict())
    for trained, opt in ((net, theirs), (mine, ours)):
        look_up(trained, opt, 3)
    # Rows that a batch has twice are added in another order: one rounding a step.
    torch.testing.assert_close(mine.weight, net.weight, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
def test_sparse_momentum_that_a_loader_puts_there() -> None:
    net, opt = embedding(SGD)
    look_up(net, opt, 1)
    dense = opt.state[net.weight]["momentum_buffer"].clone()
    opt.state[net.weight]["momentum_buffer"] = dense.to_sparse()
    look_up(net, opt, 1)
    assert opt.state[net.weight]["momentum_buffer"].layout == torch.strided


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_other_layouts(layout: torch.layout) -> None:
    opt, other = make(), make()
    train(opt, 2)
    state_dict = copy.deepcopy(opt.state_dict())
    buffer = state_dict["state"][FIRST]["momentum_buffer"]
    state_dict["state"][FIRST]["momentum_buffer"] = buffer.to_sparse(layout=layout)
    other.load_state_dict(state_dict)
    assert same_bits(other.state[params_of(other)[FIRST]]["momentum_buffer"], buffer)


def test_ones_own_tensors_in_another_order() -> None:
    """Each momentum is read before its place is filled with another's."""
    opt = SGD(models((4,), (4,), (4,)), **OPTIONS)
    train(opt, 2)
    buffers = [opt.state[p]["momentum_buffer"] for p in params_of(opt)]
    expected = copies(buffers)
    state_dict = opt.state_dict()
    entries = state_dict["state"]
    state_dict["state"] = {0: entries[2], 1: entries[0], 2: {**entries[1]}}
    state_dict["state"][2]["momentum_buffer"] = buffers[1][...]  # a view of it
    opt.load_state_dict(state_dict)
    now = [opt.state[p]["momentum_buffer"] for p in params_of(opt)]
    assert all(a is b for a, b in zip(now, buffers, strict=True))
    assert all(map(same_bits, buffers, [expected[2], expected[0], expected[1]]))


def test_a_load_leaves_the_state_dict_alone() -> None:
    opt, other = make(), SGD([parameter(randn(*s, seed=1)) for s in SHAPES], lr=1.0)
    train(opt, 2)
    state_dict = copy.deepcopy(opt.state_dict())
    other.load_state_dict(state_dict)
    train(other, 2)
    for key, entry in opt.state_dict()["state"].items():
        for name, value in entry.items():
            assert same_bits(state_dict["state"][key][name], value)


def test_state_that_nobody_here_knows_goes_along() -> None:
    opt, other = make(), make()
    train(opt, 2)
    state_dict = copy.deepcopy(opt.state_dict())
    note = {"seen": torch.ones(2, dtype=torch.float64), "list": [torch.ones(1), "text"]}
    state_dict["state"][FIRST]["note"] = note
    state_dict["state"]["run"] = {"epoch": 3}
    state_dict["param_groups"][0]["name"] = "all"
    other.load_state_dict(state_dict)
    train(other, 1)
    entry = other.state[params_of(other)[FIRST]]["note"]
    assert entry["seen"].dtype == torch.float32  # as torch's loader casts it
    assert entry["list"][1] == "text"
    assert other.state["run"] == {"epoch": 3}
    assert other.param_groups[0]["name"] == "all"


def test_a_frozen_parameter_stays_without_state() -> None:
    opt, other = make(), make()
    for each in (opt, other):
        each.add_param_group({"params": [torch.ones(2)]})
    train(opt, 0)
    other.state[params_of(other)[-1]]  # as whoever looks for it leaves an empty one there
    other.load_state_dict(opt.state_dict())
    assert set(other.state_dict()["state"]) == {0, 1, 2}


def test_a_load_ends_the_history_of_differentiable_steps() -> None:
    """Its values come from elsewhere: no gradient flows to what was before."""
    leaves = models((3,))
    saved = SGD(models((3,)), lr=1.0, momentum=0.9)
    train(saved, 1)
    params = [leaves[0].clone()]
    opt = SGD([{"params": params}], lr=0.5, momentum=0.9, differentiable=True)
    state_dict = saved.state_dict()
    state_dict["param_groups"][0]["differentiable"] = True
    for _ in range(2):
        params[0].grad = torch.ones(3)
        opt.step()
    opt.load_state_dict(state_dict)
    buffer = opt.state[params[0]]["momentum_buffer"]
    assert buffer.grad_fn is None
    assert same_bits(buffer, saved.state[params_of(saved)[0]]["momentum_buffer"])
    params[0].grad = torch.ones(3)
    opt.step()
    params[0].sum().backward()
    assert torch.equal(leaves[0].grad, torch.ones(3))


# -- in place ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loaded", [0.25, torch.tensor(0.25), torch.tensor([0.25])], ids=repr)
@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_tensor_lr_stays_where_it_is(dtype: torch.dtype, shape: Any, loaded: Any) -> None:
    lr = torch.full(shape, 0.5, dtype=dtype)
    opt = make(lr=lr)
    train(opt, 2)
    address, version = lr.data_ptr(), lr._version
    state_dict = copy.deepcopy(opt.state_dict())
    state_dict["param_groups"][0]["lr"] = loaded
    opt.load_state_dict(state_dict)
    assert opt.param_groups[0]["lr"] is lr
    assert (lr.data_ptr(), lr.dtype, lr.shape) == (address, dtype, torch.Size(shape))
    assert lr.item() == 0.25
    assert lr._version > version
    opt.step()
    assert opt.get_last_lr() == [0.25 * linear_warmup(6)(2)]


def test_a_tensor_lr_that_only_the_checkpoint_has() -> None:
    opt, other = make(lr=torch.tensor(0.25)), make()
    other.load_state_dict(opt.state_dict())
    loaded = other.param_groups[0]["lr"]
    assert isinstance(loaded, Tensor)
    assert loaded.data_ptr() != opt.param_groups[0]["lr"].data_ptr()
    assert loaded.item() == 0.25


def test_a_tensor_lr_with_a_gradient_stays_a_leaf_of_it() -> None:
    lr = torch.tensor(0.5, requires_grad=True)
    opt, other = make(), make(lr=lr)
    other.load_state_dict(opt.state_dict())
    assert other.param_groups[0]["lr"] is lr
    assert (lr.is_leaf, lr.requires_grad, lr.item()) == (True, True, torch.tensor(0.1).item())


def test_a_tensor_lr_of_many_groups() -> None:
    """It cannot be two rates at once: groups whose rates differ get tensors of their own."""
    first, second, third = models((3,), (4,), (5,))
    lr = torch.tensor(0.5)
    groups = [{"params": [p]} for p in (first, second, third)]
    opt = SGD(groups, lr=lr)
    state_dict = copy.deepcopy(opt.state_dict())
    for group, rate in zip(state_dict["param_groups"], (0.25, 0.125, 0.25), strict=True):
        group["lr"] = rate
    opt.load_state_dict(state_dict)
    rates = [group["lr"] for group in opt.param_groups]
    assert [rate.item() for rate in rates] == [0.25, 0.125, 0.25]
    assert (rates[0] is lr, rates[1] is lr, rates[2] is lr) == (True, False, True)


def test_a_wrong_rate_for_a_tensor_lr_changes_nothing() -> None:
    opt = make(lr=torch.tensor(0.5))
    train(opt, 1)
    for wrong, error in ((-1.0, ValueError), (torch.ones(2), ValueError), ("1e-3", TypeError)):
        state_dict = copy.deepcopy(opt.state_dict())
        state_dict["param_groups"][0]["lr"] = wrong
        with refused(opt, error):
            opt.load_state_dict(state_dict)


def test_what_cannot_hold_the_values_is_replaced() -> None:
    """Buffers of another dtype, with overlaps, of inference mode: no copy into them would do."""
    opt, other = make(), make()
    train(opt, 2)
    p, q, r = params_of(other)
    other.state[p]["momentum_buffer"] = torch.zeros(3).expand(5, 3)
    other.state[q]["momentum_buffer"] = torch.zeros(7, dtype=torch.float64)
    with torch.inference_mode():
        other.state[r]["momentum_buffer"] = torch.zeros(())
        other.state[r]["first_step"] = torch.tensor(-1)
    other.load_state_dict(opt.state_dict())
    for key, mine in enumerate((p, q, r)):
        expected = opt.state[params_of(opt)[key]]["momentum_buffer"]
        assert same_bits(other.state[mine]["momentum_buffer"], expected)
    train(other, 1)


@pytest.mark.parametrize("backend", [None, "reference"])
def test_built_in_inference_mode(backend: str | None) -> None:
    """State made there could not be stepped outside: it is made of other tensors."""
    mine, theirs, added = models((3,)), models((3,)), models((4,))
    with torch.inference_mode():
        opt = SGD(mine, lr=0.5, momentum=0.9, dampening=0.1, backend=backend)
        opt.steps_applied = 2
        assert opt.get_last_lr() == [0.5]
        opt.add_param_group({"params": added})
        twin = torch.optim.SGD(theirs, lr=0.5, momentum=0.9, dampening=0.1, foreach=False)
    train(opt, 2)
    train(twin, 2)
    assert same_bits(mine[0], theirs[0])


def test_loaded_in_inference_mode() -> None:
    opt, other = make(), make(momentum=0)
    train(opt, 2)
    with torch.inference_mode():
        other.load_state_dict(opt.state_dict())
        opt.load_state_dict(opt.state_dict())
    for each in (opt, other):
        train(each, 1, first=2)
        assert each.steps_applied == 3


def test_a_captured_graph_keeps_what_the_checkpoint_has_no_use_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replay writes to momentum that an option of the checkpoint has turned off."""
    opt, plain = make(), make(momentum=0, dampening=0)
    train(opt, 1)
    captured = [opt._plan]
    monkeypatch.setattr(Plan, "is_captured", property(lambda plan: plan in captured))
    kept = opt.state[params_of(opt)[0]]["momentum_buffer"]
    opt.load_state_dict(plain.state_dict())
    assert opt.state[params_of(opt)[0]]["momentum_buffer"] is kept
    assert not kept.any()
    assert opt._plans() == captured
    captured.clear()  # as its graph is gone
    assert opt._plans() == []
    opt.load_state_dict(plain.state_dict())
    assert set(opt.state[params_of(opt)[0]]) == {"step"}


def test_no_momentum_outlives_its_optimizer() -> None:
    """A plan is dropped with the state that it had."""
    opt, other = make(), make(momentum=0, dampening=0)
    train(other, 1)
    train(opt, 1)
    gc.collect()
    opt.load_state_dict(other.state_dict())
    set_grads(params_of(opt), 3)
    opt.step()
    assert opt.steps_applied == 2
