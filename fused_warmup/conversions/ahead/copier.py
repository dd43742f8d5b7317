"""Copies of objects that share nothing with the originals, however those keep their state.

`copy.deepcopy` shares functions, and with them the variables that they remember their calls in. The
copies here go through pickle, which shows each object on the way: functions get variables of their
own, classes and modules stay what they are, objects of somebody's own are copied where they are
read, and what belongs to the training is left out.
"""

import dis
import enum
import pickle
import types
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ...schedules.schedule import Schedule
from .functions import codes, remembers
from .stand_in import ON_THE_HOST, OfTheTraining, StaysOnTheHost

HEAP_TYPE = 1 << 9
"""The flag of a class that was written in Python."""
SHARED = (type, types.ModuleType, types.CodeType, Schedule, enum.Enum, torch.dtype, torch.device)
LARGE_BYTES, LARGE_COUNT = 2**20, 100_000
"""Arrays and lists from this size on are the training's data, no state of a scheduler: shared."""


class Copier:
    """Copies objects one after the other; what two of them share, their copies share.

    Args:
        name: What errors call the scheduler.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.classes: list[type] = []
        """Classes of the objects that were met."""
        self._pipe = _Pipe()
        self._numbers: dict[int, int] = {}
        self._kept: list[tuple[Any, Any]] = []
        self._pickler = _Pickler(self._pipe, self)
        self._unpickler = _Unpickler(self._pipe, self._kept)

    def put(self, original: Any, replacement: Any) -> int:
        """Have ``replacement`` in the copies wherever ``original`` is."""
        number = self._numbers[id(original)] = len(self._kept)
        # The original stays alive: its address means something only for so long.
        self._kept.append((original, replacement))
        return number

    def copy(self, thing: Any) -> Any:
        """Return a copy.

        Raises:
            StaysOnTheHost: It cannot be copied, or holds a ReduceLROnPlateau.
        """
        try:
            self._pickler.dump(thing)
            return self._unpickler.load()
        except StaysOnTheHost:
            raise
        except Exception as error:  # whatever an object of somebody's own may raise
            raise StaysOnTheHost(
                f"{self.name} holds what cannot be copied ({error}), so it cannot be run ahead: "
                f"{ON_THE_HOST}"
            ) from error

    def number_of(self, thing: Any) -> int | None:
        """Return the number of what a thing is replaced by; None if it is to be copied."""
        number = self._numbers.get(id(thing))
        if number is not None:
            return number
        if isinstance(thing, SHARED) or _is_large(thing):
            if isinstance(thing, type):
                self.classes.append(thing)
            return self.put(thing, thing)
        if isinstance(thing, ReduceLROnPlateau):
            raise StaysOnTheHost(
                f"{self.name} holds a ReduceLROnPlateau, which follows a metric: {ON_THE_HOST}"
            )
        if isinstance(thing, (torch.nn.Parameter, Optimizer)):
            what = f"a {type(thing).__name__} of the training"
            return self.put(thing, OfTheTraining(self.name, what))
        if isinstance(thing, torch.Tensor):
            return self.put(thing, thing.detach().clone())
        if _keeps_nothing(thing):
            return self.put(thing, thing)
        if is_of_ones_own(thing):
            return self.put(thing, read_through(thing, self))
        return None

    def made(self, function: types.FunctionType) -> Any:
        """Return how to make a function of the same code, with variables of its own."""
        if id(function.__globals__) not in self._numbers:
            self.put(function.__globals__, dict(function.__globals__))
        names = {
            instruction.argval
            for code in codes(function.__code__)
            for instruction in dis.get_instructions(code)
            if instruction.opname in ("LOAD_GLOBAL", "STORE_GLOBAL", "LOAD_NAME")
        }
        state = (
            [(cell, _contents(cell)) for cell in function.__closure__ or ()],
            function.__defaults__,
            function.__kwdefaults__,
            vars(function),
            {k: function.__globals__[k] for k in names if k in function.__globals__},
        )
        made_of = (function.__code__, function.__globals__, function.__name__, None)
        return types.FunctionType, (*made_of, function.__closure__), state, None, None, _fill


class _Pipe:
    """A file whose end is written to and whose beginning is read, and forgotten."""

    def __init__(self) -> None:
        self._data = b""

    def write(self, data: Any) -> int:
        self._data += bytes(data)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        size = len(self._data) if size < 0 else size
        found, self._data = self._data[:size], self._data[size:]
        return found

    def readline(self) -> bytes:
        return self.read(self._data.find(b"\n") + 1)


class _Pickler(pickle.Pickler):
    def __init__(self, pipe: _Pipe, copier: Copier) -> None:
        super().__init__(pipe, pickle.HIGHEST_PROTOCOL)
        self._copier = copier

    def persistent_id(self, thing: Any) -> int | None:
        if type(thing) in (int, float, str, bool, type(None)):
            return None
        return self._copier.number_of(thing)

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, types.MethodType):
            return types.MethodType, (thing.__func__, thing.__self__)
        if isinstance(thing, types.CellType):
            return types.CellType, ()
        if isinstance(thing, types.FunctionType):
            return self._copier.made(thing)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, pipe: _Pipe, kept: list[tuple[Any, Any]]) -> None:
        super().__init__(pipe)
        self._kept = kept

    def persistent_load(self, number: int) -> Any:
        return self._kept[number][1]


def _is_large(thing: Any) -> bool:
    if isinstance(thing, (list, dict, set, tuple)):
        return len(thing) > LARGE_COUNT
    is_array = isinstance(thing, torch.Tensor) or type(thing).__module__ == "numpy"
    return is_array and getattr(thing, "nbytes", 0) > LARGE_BYTES


def _keeps_nothing(thing: Any) -> bool:
    if isinstance(thing, types.BuiltinFunctionType):
        return isinstance(thing.__self__, (types.ModuleType, type(None)))
    if not isinstance(thing, types.FunctionType):
        return False
    return thing.__module__ == __name__ or not remembers(thing)


def is_of_ones_own(thing: Any) -> bool:
    """Tell whether all of an object's state is in its ``__dict__``, and it is no scheduler."""
    if not hasattr(thing, "__dict__") or isinstance(thing, (type, LRScheduler)):
        return False
    for cls in type(thing).__mro__[:-1]:
        # A class of C has its state elsewhere, and so has one with slots; one with a __getattr__
        # looks for it there by itself.
        of_c = not cls.__flags__ & HEAP_TYPE or isinstance(
            vars(cls).get("__new__"), types.BuiltinFunctionType
        )
        finds = "__getattr__" in vars(cls) and cls is not torch.nn.Module
        if of_c or vars(cls).get("__slots__") or finds:
            return False
    return True


def read_through(original: Any, copier: Copier) -> Any:
    """Return an object of the same class that copies each attribute when it is first read.

    So an object that holds a whole training can be asked for a number of its own.
    """
    held, cls = vars(original), type(original)
    of_modules = ("_parameters", "_buffers", "_modules")
    if isinstance(original, torch.nn.Module):
        copier.put(held["_buffers"], OfTheTraining(copier.name, "a buffer of the training"))

    def find(self: Any, name: str) -> Any:
        if name in held:
            vars(self)[name] = copier.copy(held[name])
            return vars(self)[name]
        if isinstance(original, torch.nn.Module):
            for each in of_modules:
                getattr(self, each)
            return torch.nn.Module.__getattr__(self, name)
        raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")

    copier.classes.append(cls)
    body = {"__getattr__": find, "__del__": lambda self: None, "__module__": cls.__module__}
    make: Any = type(cls)
    made = make(cls.__name__, (_NotASubclass, cls), body)
    return object.__new__(made)


class _NotASubclass:
    """Before a class whose ``__init_subclass__`` may note its subclasses somewhere."""

    def __init_subclass__(cls, **_: Any) -> None:
        pass


def _contents(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not yet filled
        return []


def _fill(function: types.FunctionType, state: Any) -> None:
    cells, function.__defaults__, function.__kwdefaults__, attributes, names = state
    for cell, contents in cells:
        if contents:
            cell.cell_contents = contents[0]
    vars(function).update(attributes)
    function.__globals__.update(names)
