"""What `Watch` notices of an optimizer's state and groups, though it does not walk what stays."""

import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import randn

from fused_warmup import _C


class Watched:
    """A state and groups like an optimizer's, and what watches them."""

    def __init__(self) -> None:
        self.params = [torch.zeros(1) for _ in range(40)]
        self.state: dict[Any, Any] = {
            p: {"step": torch.tensor(3), "momentum_buffer": randn(2, seed=i)}
            for i, p in enumerate(self.params)
        }
        self.groups: list[dict[str, Any]] = [
            {"params": self.params[:20], "schedule": {"a": 1}, "lr": 0.1, "ema_decay": 0.9},
            {"params": self.params[20:], "schedule": None, "lr": 0.1},
        ]
        self.watch = _C.Watch(self.state, self.groups)

    def unchanged(self) -> bool:
        return self.watch.unchanged(self.state, self.groups)

    @property
    def entry(self) -> dict[str, Any]:
        return self.state[self.params[-1]]


CHANGES: dict[str, Callable[[Watched], object]] = {
    "a value by an equal one": lambda w: w.entry.update(step=w.entry["step"].clone()),
    "a value set": lambda w: w.entry.__setitem__("momentum_buffer", None),
    "a value in place of an equal one": lambda w: w.entry.__ior__({"step": torch.tensor(3)}),
    "a key added": lambda w: w.entry.setdefault("first_step", torch.tensor(0)),
    "a key popped": lambda w: w.entry.pop("step"),
    "the last key popped": lambda w: w.entry.popitem(),
    "a key deleted": lambda w: w.entry.__delitem__("momentum_buffer"),
    "an entry emptied": lambda w: w.entry.clear(),
    "an entry by an equal one": lambda w: w.state.update({w.params[3]: dict(w.entry)}),
    "an entry added": lambda w: w.state.setdefault(torch.zeros(1), {}),
    "an entry popped": lambda w: w.state.popitem(),
    "an entry that comes last now": lambda w: w.state.update(
        {w.params[0]: w.state.pop(w.params[0])}
    ),
    "the state emptied": lambda w: w.state.clear(),
    "another state": lambda w: setattr(w, "state", {p: dict(w.state[p]) for p in w.state}),
    "an empty state": lambda w: setattr(w, "state", {}),
    "a schedule by an equal one": lambda w: w.groups[0].update(schedule={"a": 1}),
    "no schedule": lambda w: w.groups[0].pop("schedule"),
    "a schedule more": lambda w: w.groups[1].update(momentum_schedule={}),
    "averages": lambda w: w.groups[1].update(ema_decay=0.5),
    "no averages": lambda w: w.groups[0].update(ema_decay=None),
    "masters": lambda w: w.groups[1].update(master_weights=True),
    "a group emptied": lambda w: w.groups[0].clear(),
    "a group by an equal one": lambda w: w.groups.__setitem__(0, dict(w.groups[0])),
    "groups in another order": lambda w: w.groups.reverse(),
    "a group more": lambda w: w.groups.append({"params": []}),
    "a group less": lambda w: w.groups.pop(),
    "no groups": lambda w: w.groups.clear(),
    "a list of parameters by an equal one": lambda w: w.groups[0].update(params=w.params[:20]),
    "a parameter more": lambda w: w.groups[0]["params"].append(torch.zeros(1)),
    "a parameter less": lambda w: w.groups[0]["params"].pop(),
    "a parameter less of the last": lambda w: w.groups[1]["params"].pop(),
    "another parameter": lambda w: w.groups[1]["params"].__setitem__(-1, torch.zeros(1)),
    "parameters in another order": lambda w: w.groups[1]["params"].reverse(),
    "a parameter of the other group": lambda w: w.groups[0]["params"].append(
        w.groups[1]["params"].pop(0)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_until_it_is_undone(change: str) -> None:
    w = Watched()
    for _ in range(3):  # walked once at the most, and known from then on
        assert w.unchanged()
    state, entries = w.state, {p: dict(entry) for p, entry in w.state.items()}
    entry_dicts, groups = dict(w.state), [(group, dict(group)) for group in w.groups]
    lists = [list(group["params"]) for group in w.groups]
    CHANGES[change](w)
    assert [w.unchanged() for _ in range(3)] == [False] * 3
    w.state = state
    state.clear()
    for p, entry in entry_dicts.items():
        entry.clear()
        entry.update(entries[p])
        state[p] = entry
    w.groups[:] = [group for group, _ in groups]
    for (group, held), params in zip(groups, lists, strict=True):
        group.clear()
        group.update(held)
        group["params"][:] = params
    assert [w.unchanged() for _ in range(3)] == [True] * 3


def test_what_a_step_does_not_rely_on_may_change() -> None:
    w = Watched()
    for i in range(3):
        w.groups[0]["lr"] = i
        w.groups[1]["note"] = i
        w.groups[0]["schedule"]["a"] = i
        w.entry["note"] = i
        w.entry["step"] += 1
        assert w.unchanged()
        assert w.watch.unchanged(dict(w.state), list(w.groups))
    w.state.update({p: w.state[p] for p in w.params})
    assert w.unchanged()


def test_other_dicts_in_the_same_place_in_memory_are_others() -> None:
    w = Watched()
    assert w.unchanged()
    for _ in range(50):
        w.state = {p: {"step": torch.tensor(3)} for p in w.params}  # the first of these goes here
        w.groups = [{"params": list(w.params[:20])}, {"params": list(w.params[20:])}]
        assert not w.unchanged()


def test_dicts_outlive_what_watched_them_and_the_other_way_round() -> None:
    w = Watched()
    second = _C.Watch(w.state, w.groups)
    gone = weakref.ref(w.watch)
    w.watch = second
    assert gone() is None
    assert w.unchanged()
    w.entry["step"] = torch.tensor(3)
    assert not w.unchanged()
    entries = [*w.state.values()]
    del w.state, w.groups
    entries[0].clear()
    assert not second.unchanged({}, [])


def test_thousands_that_come_and_go() -> None:
    key, state = torch.zeros(1), {"step": torch.tensor(3)}
    shared = {key: state}
    held = sys.getrefcount(state)
    for i in range(2000):
        groups: list[dict[str, Any]] = [{"params": [key], "schedule": None}]
        watch = _C.Watch(shared, groups)
        assert watch.unchanged(shared, groups)
        if i % 500 == 0:
            shared[key] = state
    del watch
    assert sys.getrefcount(state) == held
