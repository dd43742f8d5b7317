"""The ways by which a user's Python code comes to run in the middle of a step.

Each is a context manager: within it, the k-th such moment of a step calls ``countdown.act``.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .subjects import Ours

Act = Callable[[], object]


class Haunted(torch.nn.Parameter):
    """A parameter whose gradient is a property."""

    asked: Callable[[], object] | None = None

    @property
    def grad(self) -> Tensor | None:
        if Haunted.asked is not None:
            Haunted.asked()
        return torch.Tensor.grad.__get__(self)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        torch.Tensor.grad.__set__(self, value)

    @grad.deleter
    def grad(self) -> None:
        torch.Tensor.grad.__delete__(self)


class Countdown:
    """Acts when called for the k-th time."""

    def __init__(self, k: int, act: Act) -> None:
        self.left, self.act = k, act

    def __call__(self, *_: Any) -> None:
        self.left -= 1
        if self.left == -1:
            self.act()


@contextmanager
def at_calls(ours: Ours, countdown: Countdown) -> Iterator[None]:
    """At every call and return of a function, of C or Python."""

    def profile(frame: Any, event: str, arg: Any) -> None:
        if countdown.left == 0:
            sys.setprofile(None)
        countdown()

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


class Rubbish:
    """A cycle that acts when it is collected."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act, self.me = act, self

    def __del__(self) -> None:
        self.act()


@contextmanager
def at_allocations(ours: Ours, countdown: Countdown) -> Iterator[None]:
    """At every allocation of a container, where the garbage collector may run, by either its ways.

    That is, the collection calls rubbish's ``__del__`` or what stands in ``gc.callbacks``.
    """
    k, countdown.left = countdown.left, 0
    gc.collect()
    before = gc.get_threshold()
    if k % 2:
        gc.callbacks.append(countdown)
    else:
        Rubbish(countdown)
    gc.set_threshold(k + 1, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if k % 2:
            gc.callbacks.remove(countdown)


@contextmanager
def at_gradients(ours: Ours, countdown: Countdown) -> Iterator[None]:
    """At every look at a gradient of a subclass that makes it a property."""
    Haunted.asked = countdown
    try:
        yield
    finally:
        Haunted.asked = None


class Number(float):
    """An option that acts when it is made a plain number."""

    asked: Callable[[], object] = staticmethod(lambda: None)

    def __float__(self) -> float:
        Number.asked()
        return 0.5

    def __index__(self) -> int:
        Number.asked()
        return 0

    __int__ = __index__

    def __bool__(self) -> bool:
        Number.asked()
        return False

    def __eq__(self, other: object) -> bool:
        Number.asked()
        return False

    def __hash__(self) -> int:
        return 1


class Like:
    """As `Number`, but no float."""

    __float__, __index__, __bool__ = Number.__float__, Number.__index__, Number.__bool__


@contextmanager
def at_numbers(ours: Ours, countdown: Countdown) -> Iterator[None]:
    """At every look at an option that is an object."""
    Number.asked = staticmethod(countdown)
    with torch.no_grad():
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
        for i, name in enumerate(names):
            kind = (Number, Like)[(countdown.left + i) % 2]
            ours.opt.param_groups[i % 2][name] = kind()
    try:
        yield
    finally:
        Number.asked = staticmethod(lambda: None)


class Key:
    """A key whose comparison with the text of the same hash acts."""

    asked: Callable[[], object] | None = None

    def __init__(self, text: str) -> None:
        self.text = text

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        if Key.asked is not None:
            Key.asked()
        return False


@contextmanager
def at_keys(ours: Ours, countdown: Countdown) -> Iterator[None]:
    """At every look-up in a group and in a parameter's state that meets a key of equal hash."""
    names = ("params", "lr", "momentum", "schedule", "momentum_schedule", "nesterov")
    entries = ("step", "momentum_buffer", "first_step")
    dicts = [(group, names) for group in ours.opt.param_groups]
    dicts += [(entry, entries) for entry in ours.opt.state.values()]
    for each, texts in dicts:
        items = dict(each)
        each.clear()
        each.update({Key(text): None for text in texts})
        each.update(items)
    Key.asked = countdown
    try:
        yield
    finally:
        Key.asked = None


MECHANISMS = {
    "calls": at_calls,
    "allocations": at_allocations,
    "gradients": at_gradients,
    "numbers": at_numbers,
    "keys": at_keys,
}
