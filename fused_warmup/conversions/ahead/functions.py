"""Whether a function of the step can remember anything from one call to the next.

One that cannot may be called for any step in any order: its schedule can be worked out from the
first step on, however far a training has got. The check is on the safe side: it lets through what
only reads numbers, lists of them and the like, and functions made of such functions.
"""

import argparse
import builtins
import dis
import enum
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ...schedules.schedule import Schedule

WRITES = {
    *("STORE_GLOBAL", "STORE_ATTR", "STORE_SUBSCR", "STORE_SLICE"),
    *("DELETE_GLOBAL", "DELETE_ATTR", "DELETE_SUBSCR"),
}
WRITERS = (setattr, delattr, exec, eval, globals, vars, __import__)
CONSTANTS = (type(None), bool, int, float, complex, str, bytes, range, enum.Enum, Schedule)
READABLE = (list, dict, set, argparse.Namespace, types.SimpleNamespace, torch.Tensor)
"""Types that are read without a change, as long as none of their methods is named."""
LIBRARIES = {"bisect", "cmath", "math", "numpy", "operator", "torch"}
"""Modules whose functions keep nothing of a call; their own functions are not looked into."""
DRAWS = {"random", "rand", "randn", "randint", "normal", "uniform", "choice", "multinomial"}
"""Names under which those libraries draw random numbers, and remember how many."""
MAX_FUNCTIONS = 64


def remembers(function: Callable[..., Any]) -> bool:
    """Tell whether a callable might keep something of a call: False only where it cannot.

    Example:
        >>> remembers(lambda t: 0.5**t)
        False
        >>> remembers([1.0, 0.5].pop)
        True
    """
    reach = _Reach()
    reach.add(function)
    reach.follow_modules()
    return reach.writes or not all(map(reach.is_data, reach.values))


class _Reach:
    """All that a function can get at by name: other functions, values, attributes."""

    def __init__(self) -> None:
        self.functions: dict[int, types.FunctionType] = {}
        self.modules: dict[str, types.ModuleType] = {}
        self.values: list[Any] = []
        self.names: set[str] = set()
        self.writes = False
        self.in_place = False

    def add(self, value: Any) -> None:
        if type(value) is functools.partial:
            for each in (value.func, *value.args, *value.keywords.values()):
                self.add(each)
        elif isinstance(value, types.ModuleType):
            if value.__name__.partition(".")[0] not in LIBRARIES:
                self.modules[value.__name__] = value
        elif isinstance(value, types.FunctionType):
            if id(value) not in self.functions:
                self.functions[id(value)] = value
                self.writes |= len(self.functions) > MAX_FUNCTIONS
                if not self.writes:
                    self._add_function(value)
        else:
            self.values.append(value)

    def _add_function(self, function: types.FunctionType) -> None:
        held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # not yet filled
                self.writes = True
        for each in (*held, *vars(function).values()):
            self.add(each)
        for code in codes(function.__code__):
            for instruction in dis.get_instructions(code):
                self._add_instruction(function, code, instruction)

    def _add_instruction(
        self, function: types.FunctionType, code: types.CodeType, instruction: dis.Instruction
    ) -> None:
        name, what = instruction.opname, instruction.argval
        outside = name in ("STORE_DEREF", "DELETE_DEREF") and what in code.co_freevars
        draws = isinstance(what, str) and what in DRAWS
        if name in WRITES or outside or draws:
            self.writes = True
        elif name == "BINARY_OP" and instruction.argrepr.endswith("="):
            self.in_place = True
        elif name in ("LOAD_GLOBAL", "LOAD_NAME"):
            found = function.__globals__.get(what, vars(builtins).get(what))
            self.add(found)
        elif name in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"):
            self.names.add(what)
        elif name == "IMPORT_NAME" and what in sys.modules:
            self.add(sys.modules[what])

    def follow_modules(self) -> None:
        """Add what modules hold under the names that occur, until nothing new turns up."""
        done: set[tuple[str, str]] = set()
        while not self.writes:
            pairs = {(module, name) for module in self.modules for name in self.names} - done
            if not pairs:
                return
            done |= pairs
            for module, name in pairs:
                if name in vars(self.modules[module]):
                    self.add(vars(self.modules[module])[name])

    def is_data(self, value: Any, depth: int = 0) -> bool:
        """Tell whether a value stays as it is, whatever these functions do with it."""
        if isinstance(value, CONSTANTS):
            return True
        if isinstance(value, types.BuiltinFunctionType):
            return isinstance(value.__self__, (types.ModuleType, type(None))) and not any(
                value is writer for writer in WRITERS
            )
        if isinstance(value, type):
            return value.__module__ == "builtins"
        if depth > 8:
            return False
        if type(value) in READABLE:
            if self.in_place or any(callable(getattr(type(value), n, None)) for n in self.names):
                return False
        elif type(value) not in (tuple, frozenset):
            return False
        if isinstance(value, torch.Tensor):
            return True
        inside = value.values() if isinstance(value, dict) else value
        if isinstance(value, (argparse.Namespace, types.SimpleNamespace)):
            inside = vars(value).values()
        return all(self.is_data(each, depth + 1) for each in inside)


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a function's code and that of the functions written inside it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from codes(each)
