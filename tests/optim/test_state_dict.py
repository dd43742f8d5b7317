"""Saving and loading: torch's keys, in place, to the bit, and all or nothing."""

import copy
import io
import json
from typing import Any

import pytest
import torch
from support import copies, models, parameter, refused, same_bits, set_grads, train
from torch import Tensor

from fused_warmup import SGD, Schedule, linear_warmup
from fused_warmup._groups.options import SCHEDULES
from fused_warmup.schedules import cosine

SHAPES = ((5, 3), (7,), ())
OPTIONS = {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}


def make(**options: Any) -> SGD:
    return SGD(models(*SHAPES), **{"schedule": linear_warmup(6), **OPTIONS, **options})


def params_of(opt: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in opt.param_groups for p in group["params"]]


def through_file(state_dict: Any) -> Any:
    file = io.BytesIO()
    torch.save(state_dict, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def put_params(opt: torch.optim.Optimizer, values: list[Tensor]) -> None:
    with torch.no_grad():
        for p, v in zip(params_of(opt), values, strict=True):
            p.copy_(v)


def test_state_has_torchs_keys_and_plain_data() -> None:
    opt = make()
    train(opt, 2)
    state_dict = opt.state_dict()
    assert set(state_dict) == {"state", "param_groups"}
    assert set(state_dict["state"]) == {0, 1, 2}
    assert set(state_dict["state"][0]) == {"momentum_buffer", "step", "first_step"}
    # One value and no dict: torch.distributed.checkpoint takes dicts apart.
    assert type(state_dict["param_groups"][0]["schedule"]) is str
    loaded = through_file(state_dict)
    assert Schedule.from_dict(json.loads(loaded["param_groups"][0]["schedule"])) == linear_warmup(6)
    for key, entry in state_dict["state"].items():
        for name, value in entry.items():
            assert same_bits(loaded["state"][key][name], value)
    assert [int(entry["step"]) for entry in loaded["state"].values()] == [2, 2, 2]


def test_momentum_only_where_a_group_has_it() -> None:
    opt = make(momentum=0, dampening=0)
    assert set(opt.state_dict()["state"][0]) == {"step"}


@pytest.mark.parametrize("fused", [None, True])
def test_counter_stays_int64_and_exact(fused: bool | None) -> None:
    """Torch's loader makes a step float32 where a group is fused, and bfloat16 has 8 bits."""
    count = 2**24 + 1
    for dtype in (torch.float32, torch.bfloat16):
        p = parameter(torch.zeros(3, dtype=dtype))
        opt = SGD([p], lr=0.1, momentum=0.9, fused=fused)
        for steps in (1001, count):
            opt.steps_applied = steps
            other = SGD([parameter(torch.zeros(3, dtype=dtype))], lr=0.1, momentum=0.9, fused=fused)
            other.load_state_dict(through_file(opt.state_dict()))
            assert other.steps_applied == steps
            step = next(iter(other.state.values()))["step"]
            assert (step.dtype, step.item()) == (torch.int64, steps)


def test_state_dict_hands_out_no_live_counter() -> None:
    opt = make()
    train(opt, 2)
    state_dict = opt.state_dict()
    steps = [entry["step"] for entry in state_dict["state"].values()]
    assert len({id(step) for step in steps}) == 1  # shared, as the parameters share it
    train(opt, 1)
    assert steps[0] == 2
    steps[0].fill_(77)
    assert opt.steps_applied == 3


def test_loading_is_in_place() -> None:
    opt, other = make(), make()
    train(opt, 3)
    train(other, 1, first=7)
    tensors = {
        (i, name): value
        for i, p in enumerate(params_of(other))
        for name, value in other.state[p].items()
    }
    addresses = {key: value.data_ptr() for key, value in tensors.items()}
    rates = other.lr_tensor()
    other.load_state_dict(opt.state_dict())
    for (i, name), value in tensors.items():
        now = other.state[params_of(other)[i]][name]
        assert now is value
        assert now.data_ptr() == addresses[i, name]
        if name == "momentum_buffer":
            assert same_bits(now, opt.state[params_of(opt)[i]][name])
            assert now.data_ptr() != opt.state[params_of(opt)[i]][name].data_ptr()
    assert other.lr_tensor() is rates
    assert other.steps_applied == 3
    assert other.get_last_lr() == opt.get_last_lr()


def test_loading_ones_own_state_changes_nothing() -> None:
    opt = make()
    train(opt, 3)
    state_dict = opt.state_dict()
    marks = [opt.state[p]["first_step"].clone() for p in params_of(opt)]
    opt.load_state_dict(state_dict)
    assert [int(mark) for mark in marks] == [0, 0, 0]
    twin = make()
    train(twin, 3)
    assert all(map(same_bits, train(opt, 3, first=3)[-1], train(twin, 3, first=3)[-1]))


@pytest.mark.parametrize("dampening", [0.0, 0.3])
def test_moves_to_torch_sgd_and_back(dampening: float) -> None:
    options = {**OPTIONS, "dampening": dampening}
    torchs = torch.optim.SGD(models(*SHAPES), foreach=False, **options)
    whole = torch.optim.SGD(models(*SHAPES), foreach=False, **options)
    train(torchs, 3)
    ours = make(schedule=None, dampening=dampening)
    ours.load_state_dict(through_file(torchs.state_dict()))
    assert ours.steps_applied == 0  # torch does not count
    put_params(ours, params_of(torchs))
    train(ours, 3, first=3)
    back = torch.optim.SGD(models(*SHAPES), foreach=False, **options)
    back.load_state_dict(through_file(ours.state_dict()))
    put_params(back, params_of(ours))
    train(back, 3, first=6)
    train(whole, 9)
    assert all(map(same_bits, params_of(back), params_of(whole)))


def test_torchs_momentum_of_zeros_has_stepped_too() -> None:
    """A parameter whose gradients were zero until the checkpoint is dampened from then on."""
    results = []
    for cls in (SGD, torch.optim.SGD):
        p = parameter(torch.ones(3))
        before = torch.optim.SGD([p], lr=0.1, momentum=0.9, dampening=0.5)
        p.grad = torch.zeros(3)
        before.step()
        opt = cls([p], lr=0.1, momentum=0.9, dampening=0.5)
        opt.load_state_dict(before.state_dict())
        p.grad = torch.ones(3)
        opt.step()
        results.append(p)
    assert same_bits(*results)
    assert results[0].tolist() == pytest.approx([0.95] * 3)


def test_older_states_load() -> None:
    """Groups without the newer options, steps that are plain numbers, momentum that is None."""
    opt = make()
    train(opt, 2)
    state_dict = opt.state_dict()
    for group in state_dict["param_groups"]:
        for name in ("nesterov", "maximize", "foreach", "differentiable", "fused", *SCHEDULES):
            del group[name]
    for entry in state_dict["state"].values():
        entry["step"] = float(entry["step"])
    state_dict["state"][1]["momentum_buffer"] = None
    other = make(schedule=cosine(9))
    other.load_state_dict(state_dict)
    assert other.steps_applied == 2
    assert Schedule.from_dict(other.param_groups[0]["schedule"]) == cosine(9)
    assert not other.state[params_of(other)[1]]["momentum_buffer"].any()
    set_grads(params_of(other), 5)
    other.step()
    assert other.get_last_lr() == [0.1 * cosine(9)(2)]


def test_older_pickles_go_on() -> None:
    """A pickle holds the defaults of its own time, without the newer options."""
    opt = make()
    train(opt, 2)
    old = copy.deepcopy(opt.__getstate__())
    for options in (old["defaults"], *old["param_groups"]):
        del options["momentum_schedule"], options["maximize"]
    other = SGD.__new__(SGD)
    other.__setstate__(old)
    other.add_param_group({"params": models((4,))})
    train(other, 1)
    assert other.steps_applied == 3


def test_a_parameter_without_state_starts_anew() -> None:
    opt, other = make(), make()
    train(opt, 2)
    train(other, 2)
    state_dict = opt.state_dict()
    del state_dict["state"][1]
    other.load_state_dict(state_dict)
    assert not other.state[params_of(other)[1]]["momentum_buffer"].any()
    assert int(other.state[params_of(other)[1]]["first_step"]) == -1
    assert other.steps_applied == 2


def wrong_shape(state_dict: dict[str, Any]) -> None:
    state_dict["state"][2]["momentum_buffer"] = torch.zeros(2, 2)


def wrong_count(state_dict: dict[str, Any]) -> None:
    state_dict["state"][2]["step"] = torch.tensor(9)


def negative_count(state_dict: dict[str, Any]) -> None:
    for entry in state_dict["state"].values():
        entry["step"] = torch.tensor(-3)


def momentum_in_a_list(state_dict: dict[str, Any]) -> None:
    state_dict["state"][2]["momentum_buffer"] = [1.0, 2.0]


def mark_as_a_number(state_dict: dict[str, Any]) -> None:
    state_dict["state"][2]["first_step"] = 0


def two_marks(state_dict: dict[str, Any]) -> None:
    state_dict["state"][2]["first_step"] = torch.tensor([0, 1])


def wrong_rate(state_dict: dict[str, Any]) -> None:
    state_dict["param_groups"][0]["lr"] = float("nan")


def gap(state_dict: dict[str, Any]) -> None:
    schedule = json.loads(state_dict["param_groups"][0]["schedule"])
    schedule["segments"][0]["start"] = 3
    state_dict["param_groups"][0]["schedule"] = json.dumps(schedule)


def more_groups(state_dict: dict[str, Any]) -> None:
    state_dict["param_groups"].append(copy.deepcopy(state_dict["param_groups"][0]))


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (wrong_shape, ValueError, ["(2, 2)", "()", "of the same model"]),
        (momentum_in_a_list, TypeError, ["momentum_buffer", "list", "must be a tensor", "load"]),
        (mark_as_a_number, TypeError, ["first_step", "int", "must be a tensor", "load"]),
        (two_marks, ValueError, ["first_step", "(2,)", "one element", "load"]),
        (wrong_count, ValueError, ["[3, 9]", "share one count", "a single run"]),
        (negative_count, ValueError, ["[-3]", "at least 0", "a single run"]),
        (wrong_rate, ValueError, ["nan", "finite"]),
        (gap, ValueError, ["a gap", "start=3"]),
        (more_groups, ValueError, ["parameter groups"]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_cannot_be_loaded_changes_nothing(spoil, error, words) -> None:
    opt, other = make(), make()
    train(opt, 3)
    train(other, 1)
    state_dict = copy.deepcopy(opt.state_dict())
    spoil(state_dict)
    with refused(other, error, *words):
        other.load_state_dict(state_dict)
    train(other, 1)
    assert other.steps_applied == 2


def test_loads_a_state_of_another_dtype() -> None:
    opt = make()
    train(opt, 2)
    wide = SGD(models(*SHAPES, dtype=torch.float64), **OPTIONS)
    wide.load_state_dict(opt.state_dict())
    for p, q in zip(params_of(wide), params_of(opt), strict=True):
        assert same_bits(wide.state[p]["momentum_buffer"], opt.state[q]["momentum_buffer"].double())
    assert wide.steps_applied == 2


def file_of(state_dict: Any) -> bytes:
    file = io.BytesIO()
    torch.save(state_dict, file)
    return file.getvalue()


@pytest.mark.parametrize("fused", [None, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dampening": 0.0, "nesterov": True},
        {"momentum": 0, "dampening": 0},
        {"lr": torch.tensor(0.1), "momentum_schedule": cosine(9)},
        {"schedule": None},
    ],
    ids=str,
)
def test_saved_loaded_and_saved_again_is_the_same_file(options, dtype, fused) -> None:
    """First-step marks among them, of a parameter that steps late, and the order of everything."""

    def build() -> SGD:
        own = {**OPTIONS, "schedule": linear_warmup(6), "fused": fused, **copy.deepcopy(options)}
        return SGD(models(*SHAPES, dtype=dtype), **own)

    opt = build()
    late = params_of(opt)[0]
    for step in range(1005 if dtype is torch.bfloat16 else 5):
        set_grads(params_of(opt), 0)
        late.grad = late.grad if step > 2 else None
        opt.step()
    if "first_step" in opt.state[late]:
        assert [int(opt.state[p]["first_step"]) for p in params_of(opt)] == [3, 0, 0]
    saved = file_of(opt.state_dict())
    other = build()
    for _ in range(2):
        other.load_state_dict(through_file(opt.state_dict()))
        assert file_of(other.state_dict()) == saved
    put_params(other, params_of(opt))
    for each in (opt, other):
        train(each, 2, first=5)
    assert file_of(other.state_dict()) == file_of(opt.state_dict())


def test_the_order_of_the_state_is_kept() -> None:
    """A parameter that was unfrozen late comes last, and extra keys stay where they are."""
    opt = SGD([p.requires_grad_(i > 0) for i, p in enumerate(models(*SHAPES))], **OPTIONS)
    train(opt, 1)
    opt.state[params_of(opt)[1]] = {"note": 1, **opt.state[params_of(opt)[1]]}
    opt.param_groups[0]["name"] = "all"
    other = make(schedule=None)
    other.load_state_dict(through_file(opt.state_dict()))
    assert file_of(other.state_dict()) == file_of(opt.state_dict())


def test_marks_of_steps_that_are_still_to_come_do_not_count() -> None:
    """A count set back, or of another checkpoint: a mark must not match its step again."""
    opt = make()
    train(opt, 5)
    saved = copy.deepcopy(opt.state_dict())
    for entry in saved["state"].values():
        entry["step"].fill_(0)
    other = make()
    other.load_state_dict(saved)
    assert [int(other.state[p]["first_step"]) for p in params_of(other)] == [-2, -2, -2]
    for entry in saved["state"].values():
        del entry["step"]
    other.load_state_dict(saved)
    assert [int(other.state[p]["first_step"]) for p in params_of(other)] == [-2, -2, -2]


def test_a_state_dict_is_live_and_a_copy_of_it_a_snapshot() -> None:
    """As torch's: the momentum in it is the optimizer's, only the count is not."""
    opt, twin = make(), make()
    train(opt, 2)
    train(twin, 2)
    live, snapshot = opt.state_dict(), copy.deepcopy(opt.state_dict())
    before = copies(params_of(opt))
    train(opt, 3, first=2)
    for key, p in enumerate(params_of(opt)):
        assert live["state"][key]["momentum_buffer"] is opt.state[p]["momentum_buffer"]
    assert int(live["state"][0]["step"]) == 2
    put_params(opt, before)
    opt.load_state_dict(snapshot)
    assert all(map(same_bits, train(opt, 3, first=2)[-1], train(twin, 3, first=2)[-1]))
