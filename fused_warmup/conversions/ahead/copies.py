"""A scheduler's copy, to be run ahead without a trace in the training."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .copier import HEAP_TYPE, Copier, is_of_ones_own
from .functions import CONSTANTS, remembers
from .stand_in import OfTheTraining, StandIn


@contextmanager
def copy_of(scheduler: Any, optimizer: Any, name: str) -> Iterator[tuple[Any, StandIn]]:
    """Copy a scheduler as it is, over a stand-in that has the options of all groups.

    Random numbers and what its classes hold are put back when the block ends.

    Args:
        scheduler: The scheduler.
        optimizer: Its optimizer.
        name: What errors call it.

    Raises:
        StaysOnTheHost: It holds a ReduceLROnPlateau, or something that cannot be copied.
    """
    copier = Copier(name)
    stand_in = StandIn([], {}, (name, optimizer))
    copier.put(optimizer, stand_in)
    for group in optimizer.param_groups:
        copier.put(group["params"], OfTheTraining(name, "the optimizer's parameters"))
    everything = (scheduler, optimizer.param_groups, optimizer.defaults)
    copied, stand_in.param_groups, stand_in.defaults = copier.copy(everything)
    with _classes_apart(copier), _random_numbers_apart():
        yield copied, stand_in


@contextmanager
def function_of(function: Callable[..., Any], name: str) -> Iterator[Callable[..., Any]]:
    """Give a function to call as often as needed, whatever it may remember of its calls.

    Raises:
        StaysOnTheHost: It might remember something, and cannot be copied.
    """
    copier = Copier(name)
    copied = copier.copy(function) if remembers(function) else function
    with _classes_apart(copier), _random_numbers_apart():
        yield copied


@contextmanager
def _classes_apart(copier: Copier) -> Iterator[None]:
    """Give classes other variables for a while: one class serves original and copy."""
    before: list[tuple[type, dict[str, Any]]] = []
    seen: set[type] = set()
    while copier.classes:
        for cls in copier.classes.pop().__mro__:
            if cls in seen or not cls.__flags__ & HEAP_TYPE or cls.__module__.startswith("torch."):
                continue
            seen.add(cls)
            held = {k: v for k, v in vars(cls).items() if not k.startswith("__") and _is_data(v)}
            before.append((cls, held))
            for name, value in held.items():
                if not isinstance(value, CONSTANTS):
                    type.__setattr__(cls, name, copier.copy(value))
    try:
        yield
    finally:
        for cls, held in before:
            for name in [k for k in vars(cls) if not k.startswith("__") and k not in held]:
                if _is_data(vars(cls)[name]):
                    type.__delattr__(cls, name)
            for name, value in held.items():
                if vars(cls).get(name) is not value:
                    type.__setattr__(cls, name, value)


def _is_data(value: Any) -> bool:
    """Whether a class's variable is one, rather than a method or a property."""
    plain = isinstance(value, (*CONSTANTS, list, dict, set, tuple, torch.Tensor))
    return plain or (is_of_ones_own(value) and not hasattr(type(value), "__get__"))


@contextmanager
def _random_numbers_apart() -> Iterator[None]:
    state, numpy = random.getstate(), sys.modules.get("numpy")
    numpys = None if numpy is None else numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(state)
        if numpy is not None:
            numpy.random.set_state(numpys)
