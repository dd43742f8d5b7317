"""The schedule that a group holds: whose numbers it keeps, and that no edit goes unnoticed."""

import copy
import io
import json
import pickle
from collections import UserDict

import numpy as np
import pytest
import torch
from support import models, nothing_moves, train

from fused_warmup import SGD, Schedule
from fused_warmup.schedules import cosine, linear, linear_warmup, step, table
from fused_warmup.schedules.plain import PlainSchedule

FORMULA = {"kind": "poly", "length": 4.0}


def of_one(**fields):
    """A schedule's plain data with one segment."""
    return {"segments": [{**FORMULA, **fields}], "steps": None}


def of_values(values, **fields):
    return {"segments": [{"kind": "table", "values": values, **fields}], "steps": None}


def rates(opt, steps):
    found = []
    for _ in range(steps):
        told = opt.scheduler().get_last_lr()
        train(opt, 1)
        assert opt.get_last_lr() == told
        found += told
    return found


@pytest.mark.parametrize(
    ("plain", "wanted"),
    [
        (of_one(length=np.float32(4)), [1.0, 0.75, 0.5]),
        (of_one(length=4, a=np.float64(2), start=np.int64(0)), [2.0, 1.5, 1.0]),
        (of_one(a=np.array(2.0)[()], stair=np.uint8(2)), [2.0, 2.0, 1.0]),
        (of_one(kind=np.str_("cos")), [1.0, cosine(4)(1), 0.5]),
        (of_one(b=-0.0), [1.0, 0.75, 0.5]),
        ({"segments": ({"length": 4},), "steps": np.int32(4)}, [1.0, 0.75, 0.5]),
        (UserDict(of_one()), [1.0, 0.75, 0.5]),
        ({"segments": [UserDict(FORMULA)], "steps": None}, [1.0, 0.75, 0.5]),
        (of_values(range(3)), [0.0, 1.0, 2.0]),
        (of_values(np.arange(3)), [0.0, 1.0, 2.0]),
        (of_values(np.array([0.5, 0.1], dtype=np.float16)), [0.5, float(np.float16(0.1))]),
        (of_values([np.float32(0.1), 1]), [float(np.float32(0.1)), 1.0]),
        (of_values(torch.tensor([0.5, 0.25])), [0.5, 0.25]),
        (of_values([0.5, -0.0]), [0.5, 0.0]),
    ],
)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_numbers_of_any_kind_become_pythons_own(plain, wanted, backend):
    opt = SGD(models((3,)), lr=1.0, schedule=plain, backend=backend)
    assert rates(opt, len(wanted)) == wanted
    stored = io.BytesIO()
    torch.save(opt.state_dict(), stored)
    stored.seek(0)
    resumed = SGD(models((3,)), lr=1.0, schedule=plain)
    resumed.load_state_dict(torch.load(stored, weights_only=True))
    assert resumed.steps_applied == len(wanted)
    assert resumed.param_groups[0]["schedule"] == opt.param_groups[0]["schedule"]
    kept = opt.param_groups[0]["schedule"]
    assert kept == json.loads(json.dumps(kept))
    assert opt.state_dict()["param_groups"][0]["schedule"] == json.dumps(kept)
    assert "-0.0" not in json.dumps(kept)


@pytest.mark.parametrize(
    ("plain", "error", "words"),
    [
        (of_one(length="4"), TypeError, "length must be a real number, got '4'"),
        (of_one(length=np.array([4.0])), TypeError, "length must be a real number"),
        (of_one(a=True), TypeError, "a must be a real number, got True"),
        (of_one(a=np.bool_(True)), TypeError, "a must be a real number"),
        (of_one(a=torch.tensor(2.0)), TypeError, "a must be a real number"),
        (of_one(a=2j), TypeError, "a must be a real number"),
        (of_one(a=np.float64("nan")), ValueError, "a must be a finite number"),
        (of_one(stair=2.0), TypeError, "stair must be an integer"),
        (of_one(kind=["poly"]), ValueError, "kind must be one of"),
        (of_one(kind=np.array(["poly", "cos"])), ValueError, "kind must be one of"),
        (of_one(**{"lenght": 3}), ValueError, "unknown segment fields"),
        (
            {"segments": [{**FORMULA, 3: 4}], "steps": None},
            ValueError,
            "unknown segment fields [3]",
        ),
        ({"segments": [FORMULA], "steps": 1.0}, TypeError, "steps must be an integer"),
        ({"segments": {0: FORMULA}, "steps": None}, TypeError, "must be a list of dicts"),
        ({"segments": "poly", "steps": None}, TypeError, "must be a list of dicts"),
        ({"segments": [FORMULA], "steps": None, 3: 4}, ValueError, "must have the keys"),
        (of_values(b"\x01\x02"), TypeError, "values must be a list, got b'\\x01\\x02'"),
        (of_values(bytearray(3)), TypeError, "values must be a list"),
        (of_values("12"), TypeError, "values must be a list, got '12'"),
        (of_values({1.0, 0.5}), TypeError, "values must be a list"),
        (of_values({1.0: 2}), TypeError, "values must be a list"),
        (of_values(1.0), TypeError, "values must be a list"),
        (of_values(None), TypeError, "values must be a list"),
        (of_values(np.array(1.0)), TypeError, "values must be a list"),
        (of_values(np.ones((2, 2))), TypeError, "values[0] must be a real number"),
        (of_values(np.array([True])), TypeError, "values[0] must be a real number"),
        (of_values([]), ValueError, "needs at least one"),
        # Below 0 a rate would climb: docs/limits.md.
        (of_one(a=-1.0), ValueError, "factors must be at least 0, got -1.0 at step 0 of"),
        (of_one(b=-0.5), ValueError, "factors must be at least 0, got -0.5 at step 4"),
        (
            of_values([1.0, -1e-300]),
            ValueError,
            "factors must be at least 0, got -1e-300 at step 1",
        ),
        (of_values([1.0], period=1, b=-1.0, log_cycle_gain=-1.0), ValueError, "at least 0, got -"),
        (of_one(past_end="continue"), ValueError, "got -0.25 at step 5"),
        (of_one(past_end="continue", p=3.0), ValueError, "got -"),
        (of_one(past_end="continue", a=0.5, b=1.0, shift=-5.0), ValueError, "got -0.125 at step 0"),
        (of_one(kind="exp", p=1.0, a=1.0, b=2.0), ValueError, "factors must be at least 0, got -"),
        (of_one(kind="exp", past_end="continue", p=0.1, b=9.0), ValueError, "got -0.06"),
        (of_one(kind="pow", p=-2.0, a=1.0, b=2.0), ValueError, "got -2.0"),
        (of_one(past_end="continue", length=4.0, period=9), ValueError, "got -0.25 at step 5"),
        (
            of_values([1.0, 0.5], b=0.75, period=2, log_cycle_gain=1.0),
            ValueError,
            "got -inf at step 922337203685477580",
        ),
    ],
)
def test_what_makes_no_schedule_is_named(plain, error, words):
    with pytest.raises(error) as caught:
        SGD(models((3,)), lr=1.0, schedule=plain)
    assert words in str(caught.value)
    opt = SGD(models((3,)), lr=1.0, schedule=linear(4))
    train(opt, 1)
    with nothing_moves(opt), pytest.raises(error):
        opt.add_param_group({"params": models((2,)), "schedule": plain})
    with pytest.raises(error):
        Schedule.from_dict(plain)


def test_a_later_segment_may_end_one_before_it_falls_below_zero():
    falls = of_one(past_end="continue", length=4.0)
    falls["segments"].append({"kind": "poly", "start": 4, "a": 0.25, "b": 0.25})
    assert Schedule.from_dict(falls)([0, 3, 4, 9]) == [1.0, 0.25, 0.25, 0.25]


@pytest.mark.parametrize("name", ["schedule", "momentum_schedule"])
def test_the_users_dict_stays_the_users(name):
    mine = linear(4).then(table([0.5, 0.25])).to_dict()
    before = copy.deepcopy(mine)
    opt = SGD(models((3,), (2,)), lr=1.0, momentum=0.5, **{name: mine})
    train(opt, 1)
    mine["segments"][0]["a"] = 0.125
    mine["segments"][1]["values"][0] = 9.0
    mine["steps"] = 99
    train(opt, 1)
    assert opt.param_groups[0][name] == before
    opt.param_groups[0][name] = mine  # now it is another
    train(opt, 1)
    assert Schedule.from_dict(opt.param_groups[0][name]) == Schedule.from_dict(mine)


def test_groups_share_the_copy_and_it_is_made_once():
    mine = linear(4).to_dict()
    params = models((3,), (2,))
    opt = SGD([{"params": [p], "schedule": mine} for p in params], lr=1.0)
    kept = opt.param_groups[0]["schedule"]
    assert kept is not mine
    plan = None
    for _ in range(3):
        train(opt, 1)
        assert opt.param_groups[0]["schedule"] is kept
        assert plan in (None, opt._plan)
        plan = opt._plan
    opt.param_groups[1]["schedule"] = opt.param_groups[0]["schedule"]
    train(opt, 1)
    assert opt.param_groups[1]["schedule"] is kept


def test_defaults_that_were_set_later_are_copied_too():
    opt, mine = SGD(models((3,)), lr=1.0), linear(4).to_dict()
    opt.defaults["schedule"] = mine
    opt.add_param_group({"params": models((2,)), "schedule": opt.defaults["schedule"]})
    opt.add_param_group({"params": models((4,))})
    for group in opt.param_groups[1:]:
        assert isinstance(group["schedule"], PlainSchedule)
        assert group["schedule"] == mine


EDITS = {
    "a key": lambda s: s.__setitem__("steps", 3),
    "deleted": lambda s: s.__delitem__("steps"),
    "update": lambda s: s.update(steps=3),
    "pop": lambda s: s.pop("steps"),
    "popitem": lambda s: s.popitem(),
    "clear": lambda s: s.clear(),
    "setdefault": lambda s: s.setdefault("more", 1),
    "or": lambda s: s.__ior__({"steps": 3}),
    "a segment": lambda s: s["segments"].__setitem__(0, {}),
    "no segment": lambda s: s["segments"].__delitem__(0),
    "append": lambda s: s["segments"].append({}),
    "extend": lambda s: s["segments"].extend([{}]),
    "insert": lambda s: s["segments"].insert(0, {}),
    "remove": lambda s: s["segments"].remove({}),
    "reverse": lambda s: s["segments"].reverse(),
    "add": lambda s: s["segments"].__iadd__([{}]),
    "times": lambda s: s["segments"].__imul__(2),
    "a field": lambda s: s["segments"][0].__setitem__("a", 5.0),
    "a value": lambda s: s["segments"][1]["values"].__setitem__(0, 5.0),
    "values": lambda s: s["segments"][1]["values"].sort(),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_in_place_is_refused(edit):
    """It could not be noticed; the rate that is told and the rate that is used would part."""
    schedule = linear(4).then(table([0.5, 0.25]))
    opt = SGD(models((3,)), lr=1.0, schedule=schedule)
    train(opt, 1)
    with nothing_moves(opt), pytest.raises(TypeError, match=r"copy\.deepcopy\(\).*assign"):
        edit(opt.param_groups[0]["schedule"])
    assert rates(opt, 5) == schedule(range(1, 6))


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        copy.copy,
        lambda s: s.copy(),
        lambda s: pickle.loads(pickle.dumps(s)),
        lambda s: json.loads(json.dumps(s)),
    ],
)
def test_a_copy_is_edited_and_assigned(copied):
    opt = SGD(models((3,)), lr=1.0, schedule=linear(4).then(table([0.5, 0.25])))
    train(opt, 1)
    mine = copied(opt.param_groups[0]["schedule"])
    mine["segments"][0]["length"] = 8.0
    mine["segments"][1]["values"].append(0.125)
    mine["steps"] = 7
    opt.param_groups[0]["schedule"] = mine
    wanted = Schedule.from_dict(mine)
    assert rates(opt, 7) == wanted(range(1, 8))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_optimizers_and_groups(protocol):
    schedule = linear_warmup(3).then(table([1.0, 0.5]))
    opt = SGD(models((3,)), lr=1.0, schedule=schedule, momentum_schedule=schedule, momentum=0.5)
    train(opt, 2)
    for same in (pickle.loads(pickle.dumps(opt, protocol)), copy.deepcopy(opt)):
        kept = same.param_groups[0]["schedule"]
        assert isinstance(kept, PlainSchedule)
        assert kept is same.param_groups[0]["momentum_schedule"]
        assert rates(same, 4) == schedule(range(2, 6))
    stored = io.BytesIO()
    torch.save(opt.param_groups, stored)
    stored.seek(0)
    loaded = torch.load(stored, weights_only=True)
    assert loaded[0]["schedule"] == schedule.to_dict()
    group = opt.param_groups[0]
    assert (
        repr(copy.deepcopy(group)["schedule"])
        == repr(group["schedule"])
        == repr(schedule.to_dict())
    )


def test_a_schedule_in_a_file_loads_as_data() -> None:
    for schedule in (linear_warmup(3).then(step(2)), table([1.0, 0.5])):
        buffer = io.BytesIO()
        torch.save({"schedule": schedule}, buffer)
        buffer.seek(0)
        assert torch.load(buffer, weights_only=True) == {"schedule": schedule}
