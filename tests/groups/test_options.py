"""The options of a group: what counts as a number or a flag, and what may change later."""

import copy
import decimal
import fractions
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from support import copies, models, nothing_moves, parameter, refused, same_bits, set_grads, train

from fused_warmup import SGD, linear_warmup

NUMBERS = ("lr", "momentum", "weight_decay", "dampening")
FLAGS = ("nesterov", "maximize", "differentiable", "foreach", "fused")
BACKENDS = (None, "cpu", "reference")
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=str)
every_number = pytest.mark.parametrize("name", NUMBERS)
every_flag = pytest.mark.parametrize("name", FLAGS)

NOT_NUMBERS = [
    "0.5",
    "1e-3",
    " 1 ",
    "nan",
    "",
    b"0.5",
    bytearray(b"0.5"),
    np.str_("0.5"),
    np.bytes_(b"0.5"),
    np.array("0.5"),
    np.array("0.5", dtype=object),
    np.array(0.5, dtype=object),
    np.array([0.5]),
    np.complex64(0.5),
    np.datetime64(1, "s"),
    0.5 + 0j,
    torch.tensor(0.5 + 0j),
    decimal.Decimal("0.5"),
    fractions.Fraction(1, 2),
    None,
    [0.5],
    (0.5,),
    {"value": 0.5},
    lambda: 0.5,
    True,
    False,
    np.bool_(True),
    np.array(False),
    torch.tensor(True),
]
"""torch.optim.SGD refuses them when it is made or when it steps, but for the bools."""

HALF = [
    0.5,
    np.float16(0.5),
    np.float32(0.5),
    np.float64(0.5),
    np.longdouble(0.5),
    np.array(0.5),
    np.array(0.5, dtype=np.float32),
    torch.tensor(0.5),
    torch.tensor(0.5, dtype=torch.bfloat16),
    torch.tensor([0.5], dtype=torch.float64),
]
ONE = [1, np.int64(1), np.uint8(1), np.array(1)]


def shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.20}"


no_number = pytest.mark.parametrize("value", NOT_NUMBERS, ids=shown)


def trained(backend: str | None = None, **options: Any) -> SGD:
    options = {"momentum": 0.9, "schedule": linear_warmup(4, 0.1), **options}
    opt = SGD(models((5, 3), (7,)), lr=0.1, backend=backend, **options)
    train(opt, 2)
    set_grads([p for group in opt.param_groups for p in group["params"]], 9)
    return opt


# -- what is no number -----------------------------------------------------------------------------


@no_number
@every_number
def test_is_refused_by_the_constructor_and_by_a_group(name: str, value: Any) -> None:
    # A tensor lr has errors of its own.
    match = "floating dtype" if name == "lr" and isinstance(value, torch.Tensor) else "a number"
    with pytest.raises(TypeError, match=match):
        SGD(models((3,)), **{name: value})
    with pytest.raises(TypeError, match=match):
        SGD([{"params": models((3,)), name: value}], lr=0.1)
    opt = trained()
    with refused(opt, TypeError):
        opt.add_param_group({"params": [parameter(torch.ones(2))], name: value})
    assert len(opt.param_groups) == 1


@no_number
@every_number
def test_is_refused_by_a_load(name: str, value: Any) -> None:
    opt = trained()
    saved = copy.deepcopy(opt.state_dict())
    saved["param_groups"][0][name] = value
    opt.step()
    with refused(opt, TypeError):
        opt.load_state_dict(saved)
    train(opt, 1)


@no_number
@every_number
@every_backend
def test_is_refused_by_a_step(backend: str | None, name: str, value: Any) -> None:
    opt = trained(backend)
    group = opt.param_groups[0]
    right, group[name] = group[name], value
    params = group["params"]
    before = copies(params)
    with pytest.raises(TypeError):
        opt.step()
    with pytest.raises(TypeError):
        opt.update_captured()
    assert all(map(same_bits, params, before))
    group[name] = right
    opt.step()
    assert opt.steps_applied == 3


def test_the_message_names_the_text_and_what_to_do() -> None:
    with pytest.raises(
        TypeError, match=r"learning rate: '1e-3', it must be a number: pass a float"
    ):
        SGD(models((3,)), lr="1e-3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"YAML takes 1e-3 for text and 1.0e-3 for a number"):
        SGD(models((3,)), weight_decay="1e-4")  # type: ignore[arg-type]
    with pytest.raises(TypeError) as caught:
        SGD(models((3,)), momentum="fast")  # type: ignore[arg-type]
    assert "YAML" not in str(caught.value)


@every_number
def test_a_number_beyond_floats_is_not_finite(name: str) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        SGD(models((3,)), **{name: 10**400})


@pytest.mark.parametrize("name", NUMBERS[1:])
def test_a_tensor_of_several_elements_is_no_option(name: str) -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\), it must have one element"):
        SGD(models((3,)), **{name: torch.tensor([0.1, 0.2])})


# -- what is one -----------------------------------------------------------------------------------


@every_backend
@every_number
@pytest.mark.parametrize(
    ("value", "plain"), [*((v, 0.5) for v in HALF), *((v, 1.0) for v in ONE)], ids=shown
)
def test_every_number_steps_as_a_float_does(
    backend: str | None, name: str, value: Any, plain: float
) -> None:
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "backend": backend}
    given = SGD(models((5, 3), (7,)), **{**options, name: value})
    floats = SGD(models((5, 3), (7,)), **{**options, name: plain})
    for one, other in zip(train(given, 3), train(floats, 3), strict=True):
        assert all(map(same_bits, one, other))


# -- flags -----------------------------------------------------------------------------------------

NO_FLAGS = ["False", "True", "", b"0", np.str_("no"), np.array("no"), [], [True], 1j, object]
no_flag = pytest.mark.parametrize("value", NO_FLAGS, ids=shown)


@no_flag
@pytest.mark.parametrize("name", [*FLAGS, "unscale", "write_grads"])
def test_what_is_no_flag_is_refused_by_the_constructor(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"{name}: .* must be a bool: pass True or False"):
        SGD(models((3,)), momentum=0.9, **{name: value})


@no_flag
@every_flag
def test_what_is_no_flag_is_refused_by_a_group_and_by_a_load(name: str, value: Any) -> None:
    opt = trained()
    with refused(opt, TypeError, "must be a bool"):
        opt.add_param_group({"params": [parameter(torch.ones(2))], name: value})
    saved = copy.deepcopy(opt.state_dict())
    saved["param_groups"][0][name] = value
    with refused(opt, TypeError, "must be a bool"):
        opt.load_state_dict(saved)


@no_flag
@pytest.mark.parametrize("name", ["nesterov", "maximize"])
@every_backend
def test_what_is_no_flag_is_refused_by_a_step(backend: str | None, name: str, value: Any) -> None:
    opt = trained(backend)
    opt.param_groups[0][name] = value
    with nothing_moves(opt), pytest.raises(TypeError, match="must be a bool"):
        opt.step()


@pytest.mark.parametrize("value", [True, 1, 1.0, np.bool_(True), np.int8(1), torch.tensor(True)])
@every_backend
def test_every_flag_steps_as_a_bool_does(backend: str | None, value: Any) -> None:
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "backend": backend}
    given = SGD(models((5, 3)), **options, nesterov=value, maximize=value)
    bools = SGD(models((5, 3)), **options, nesterov=True, maximize=True)
    for one, other in zip(train(given, 3), train(bools, 3), strict=True):
        assert all(map(same_bits, one, other))
    off = SGD(models((5, 3)), **options, nesterov=None, maximize=None)  # type: ignore[arg-type]
    for one, other in zip(train(off, 1), train(SGD(models((5, 3)), **options), 1), strict=True):
        assert all(map(same_bits, one, other))


# -- options that meet in mid-training -------------------------------------------------------------

LATER: list[dict[str, Any]] = [
    {"momentum": 0},
    {"momentum": 0.0, "dampening": 0.5},
    {"dampening": 0.5},
    {"dampening": -0.5},
    {"momentum": 0, "weight_decay": 0.1, "maximize": True},
]


@pytest.mark.parametrize("later", LATER, ids=str)
@every_backend
def test_nesterov_without_momentum_or_with_dampening_steps_as_torch(
    backend: str | None, later: dict[str, Any]
) -> None:
    opt = SGD(models((5, 3), (7,)), lr=0.1, momentum=0.9, nesterov=True, backend=backend)
    theirs = torch.optim.SGD(models((5, 3), (7,)), lr=0.1, momentum=0.9, nesterov=True)
    before = dict(opt.param_groups[0])
    first = 0
    for change in ({}, later, {key: before[key] for key in later}, later):
        for each in (opt, theirs):
            each.param_groups[0].update(change)
        for ours, torchs in zip(
            train(opt, 2, first=first), train(theirs, 2, first=first), strict=True
        ):
            assert all(map(same_bits, ours, torchs))
        first += 2


@every_backend
def test_nesterov_turned_on_later(backend: str | None) -> None:
    for options in ({"momentum": 0.0}, {"momentum": 0.9, "dampening": 0.5}):
        opt = SGD(models((5, 3)), lr=0.1, backend=backend, **options)
        theirs = torch.optim.SGD(models((5, 3)), lr=0.1, **options)
        for each in (opt, theirs):
            train(each, 1)
            each.param_groups[0]["nesterov"] = True
        for ours, torchs in zip(train(opt, 2, first=1), train(theirs, 2, first=1), strict=True):
            assert all(map(same_bits, ours, torchs))


@every_backend
def test_a_run_whose_momentum_was_set_to_0_is_saved_and_goes_on(backend: str | None) -> None:
    opt = trained(backend, nesterov=True)
    opt.param_groups[0]["momentum"] = 0
    opt.step()
    fresh = SGD(
        models((5, 3), (7,)),
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        schedule=linear_warmup(4, 0.1),
        backend=backend,
    )
    for other in (copy.deepcopy(opt), fresh):
        other.load_state_dict(opt.state_dict())
        other.update_captured()
        train(other, 1)
        assert (other.steps_applied, other.param_groups[0]["momentum"]) == (4, 0)


def test_new_groups_are_checked_as_before() -> None:
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        SGD(models((3,)), lr=0.1, nesterov=True)
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        SGD([{"params": models((3,)), "momentum": 0}], lr=0.1, momentum=0.9, nesterov=True)
    opt = trained(nesterov=True)
    with refused(opt, ValueError, "Nesterov", "dampening=0.5"):
        opt.add_param_group({"params": [parameter(torch.ones(2))], "dampening": 0.5})


@pytest.mark.parametrize(
    ("name", "value", "advised"),
    [
        ("schedul", None, "did you mean 'schedule'"),
        ("weight_deacy", 0.1, "did you mean 'weight_decay'"),
        ("momentun", 0.9, "did you mean 'momentum'"),
        ("lr_scheduler", linear_warmup(3), "is a schedule: a group's is one of 'schedule', "),
        ("backend", "cpu", "pass backend= to the optimizer"),
    ],
)
def test_a_misspelt_option_of_a_group_is_told(name: str, value: Any, advised: str) -> None:
    with pytest.warns(UserWarning, match=f"'{name}' in a group changes nothing.*{advised}") as told:
        SGD([{"params": models((2,)), name: value}])
    assert told[0].filename == __file__
    opt = SGD(models((2,)))
    with pytest.warns(UserWarning, match=advised):
        opt.add_param_group({"params": models((3,)), name: value})


def test_what_trainers_keep_in_groups_is_no_misspelt_option() -> None:
    kept = ("name", "initial_lr", "lr_scale", "lr_mult", "decay_mult", "no_weight_decay", "layer")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt = SGD([{"params": models((2,)), **dict.fromkeys(kept, 1)}])
    assert opt.param_groups[0]["lr_scale"] == 1
