"""A copy of a scheduler that shares nothing with the training, however it keeps its state.

`copy.deepcopy` shares functions, and with them the variables that they remember their calls in. The
copy here goes through pickle, which shows each object on the way: functions get variables of their
own, classes and modules stay what they are, and what belongs to the training is left out.
"""

import dis
import io
import pickle
import types
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..schedules.schedule import Schedule
from .functions import codes, remembers

ON_THE_HOST = 'keep the scheduler itself over the fused optimizer, it works through group["lr"]'
TRAINING = (torch.nn.Module, torch.nn.Parameter, Optimizer, torch.utils.data.DataLoader)
"""What the training changes, at a time that no copy could know."""


class StaysOnTheHost(TypeError):
    """A scheduler that no function of the step can state."""


class OfTheTraining:
    """In the place of something that the training changes: an error as soon as it is looked at."""

    def __init__(self, scheduler: str, what: str) -> None:
        object.__setattr__(self, "_names", (scheduler, what))

    def _refuse(self, *_: Any) -> Any:
        scheduler, what = object.__getattribute__(self, "_names")
        raise StaysOnTheHost(
            f"{scheduler} looks at {what}, whose future no schedule can state: {ON_THE_HOST}"
        )

    __getattribute__ = __setattr__ = __getitem__ = __setitem__ = _refuse
    __iter__ = __len__ = __bool__ = __call__ = __contains__ = __float__ = _refuse


class StandIn(Optimizer):
    """What a scheduler needs of an optimizer: the options of its groups."""

    _opt_called = True  # or torch would warn that no step was taken

    def __init__(
        self,
        groups: list[dict[str, Any]],
        defaults: dict[str, Any],
        of: tuple[str, Any] = ("", None),
    ) -> None:
        """Leave torch's own undone: there are no parameters."""
        self.param_groups = groups
        self.defaults = defaults
        self._of = of

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        scheduler, optimizer = vars(self)["_of"]
        if not hasattr(optimizer, name):
            raise AttributeError(f"{type(optimizer).__name__} has no attribute {name!r}")
        raise StaysOnTheHost(
            f"{scheduler} looks at the optimizer's {name}, whose future no schedule can state: "
            f"{ON_THE_HOST}"
        )


def copy_of(scheduler: Any, optimizer: Any, name: str) -> tuple[Any, StandIn]:
    """Copy a scheduler as it is, over a stand-in that has the options of all groups.

    Args:
        scheduler: The scheduler.
        optimizer: Its optimizer.
        name: What errors call it.

    Raises:
        StaysOnTheHost: It holds a ReduceLROnPlateau, or something that cannot be copied.
    """
    stand_in = StandIn([], {}, (name, optimizer))
    file = io.BytesIO()
    pickler = _Pickler(file, name)
    pickler.put(optimizer, stand_in)
    for group in optimizer.param_groups:
        pickler.put(group["params"], OfTheTraining(name, "the optimizer's parameters"))
    everything = (scheduler, optimizer.param_groups, optimizer.defaults)
    copied, groups, defaults = _written(pickler, everything, name, file)
    stand_in.param_groups, stand_in.defaults = groups, defaults
    return copied, stand_in


def own_function(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function to call as often as needed, whatever it may remember of its calls.

    Raises:
        StaysOnTheHost: It might remember something, and cannot be copied.
    """
    if not remembers(function):
        return function
    file = io.BytesIO()
    pickler = _Pickler(file, name)
    return _written(pickler, function, name, file)  # type: ignore[no-any-return]


def _written(pickler: "_Pickler", thing: Any, name: str, file: io.BytesIO) -> Any:
    try:
        pickler.dump(thing)
        file.seek(0)
        return _Unpickler(file, pickler.kept).load()
    except StaysOnTheHost:
        raise
    except Exception as error:  # whatever an object of somebody's own may raise
        raise StaysOnTheHost(
            f"{name} holds what cannot be copied ({error}), so it cannot be run ahead: "
            f"{ON_THE_HOST}"
        ) from error


class _Pickler(pickle.Pickler):
    """Writes what is to be copied, and numbers what goes over as something else or as it is."""

    def __init__(self, file: io.BytesIO, scheduler: str) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._scheduler = scheduler
        self._numbers: dict[int, int] = {}
        self.kept: list[Any] = []
        self._alive: list[Any] = []
        """Originals: an address means something only for as long as its object is there."""

    def put(self, original: Any, replacement: Any) -> int:
        """Have ``replacement`` in the copy wherever ``original`` is."""
        number = self._numbers[id(original)] = len(self.kept)
        self.kept.append(replacement)
        self._alive.append(original)
        return number

    def persistent_id(self, thing: Any) -> int | None:
        if type(thing) in (int, float, str, bool, type(None)):
            return None
        number = self._numbers.get(id(thing))
        if number is not None:
            return number
        if isinstance(thing, ReduceLROnPlateau):
            raise StaysOnTheHost(
                f"{self._scheduler} holds a ReduceLROnPlateau, which follows a metric: "
                f"{ON_THE_HOST}"
            )
        if isinstance(thing, TRAINING):
            what = f"a {type(thing).__name__} of the training"
            return self.put(thing, OfTheTraining(self._scheduler, what))
        if isinstance(thing, torch.Tensor):
            return self.put(thing, thing.detach().clone())
        shared = isinstance(thing, (type, types.ModuleType, types.CodeType, Schedule))
        return self.put(thing, thing) if shared or _keeps_nothing(thing) else None

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, types.MethodType):
            return types.MethodType, (thing.__func__, thing.__self__)
        if isinstance(thing, types.CellType):
            return types.CellType, ()
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        return NotImplemented

    def _function(self, function: types.FunctionType) -> Any:
        """A function of the same code with variables of its own, those of its module included."""
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


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kept: list[Any]) -> None:
        super().__init__(file)
        self._kept = kept

    def persistent_load(self, number: int) -> Any:
        return self._kept[number]


def _keeps_nothing(thing: Any) -> bool:
    if isinstance(thing, types.BuiltinFunctionType):
        return isinstance(thing.__self__, (types.ModuleType, type(None)))
    if not isinstance(thing, types.FunctionType):
        return False
    return thing.__module__ == __name__ or not remembers(thing)


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
