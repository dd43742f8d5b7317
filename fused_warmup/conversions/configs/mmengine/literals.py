"""Works out what a config in Python assigns, as far as it is literal; nothing is ever run."""

import ast
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ....schedules.checks import shown

BASES = "_base_"
"""The name that files below have, and under which a config refers to what they assign."""
HUGE = 2**63
"""Numbers from here on are refused: a few lines of squares would fill the memory."""
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
REACH_ALL = ("exec", "eval", "globals", "locals", "vars")
"""Functions that may change any name."""


class NotLiteral(ValueError):
    """An expression that is not read."""


@dataclass(frozen=True)
class Unknown:
    """In place of a value: the code that has set it, or may have changed it."""

    code: str


Changed = dict[int, tuple[Any, Unknown]]
"""Lists and dicts, by id, that code which is not read may have changed."""


@dataclass
class Names:
    """What the names of one file stand for.

    Args:
        below: What the files assign that it names under ``_base_``.
        changed: Of all files of a config, for they share values.
    """

    below: dict[str, Any]
    changed: Changed
    values: dict[str, Any] = field(default_factory=dict)

    def value(self, node: ast.expr) -> Any:
        """Work out a literal, ``dict(...)``, arithmetic of numbers, a known name, an item of one.

        Raises:
            NotLiteral: It is something else.
        """
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in self.values:
                return self._unchanged(node, self.values[name])
            case ast.Name(id="_base_"):
                return self.below
            case ast.Name(id=name):  # a class of MMEngine that the file has imported
                return name if name[:1].isupper() else _refuse(node)
            case ast.Attribute(value=holder, attr=name) if _is_of_bases(holder):
                return self._item(node, holder, name)
            case ast.Subscript(value=holder, slice=key):
                return self._item(node, holder, self.value(key))
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.value(item) for item in items]
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {self._key(key): self.value(value) for key, value in pairs if key}
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=items):
                if any(item.arg is None for item in items):
                    _refuse(node)
                return {str(item.arg): self.value(item.value) for item in items}
            case ast.Call(func=ast.Name(id="dict"), args=[ast.Dict() as only], keywords=[]):
                return self.value(only)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._number(operand)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in ARITHMETIC:
                try:
                    result = ARITHMETIC[type(op)](self._number(left), self._number(right))
                except ArithmeticError:
                    _refuse(node)
                return result if abs(result) < HUGE else _refuse(node)
            case _:
                return _refuse(node)

    def _unchanged(self, node: ast.expr, value: Any) -> Any:
        return _refuse(node) if isinstance(value, Unknown) or id(value) in self.changed else value

    def _item(self, node: ast.expr, holder: ast.expr, key: Any) -> Any:
        try:
            return self._unchanged(node, self.value(holder)[key])
        except (IndexError, KeyError, TypeError):
            return _refuse(node)

    def _key(self, node: ast.expr) -> str | int | float | None:
        key = self.value(node)
        return key if isinstance(key, str | int | float | None) else _refuse(node)

    def _number(self, node: ast.expr) -> float:
        value = self.value(node)
        return value if isinstance(value, int | float) else _refuse(node)

    def doubt(self, code: ast.stmt | ast.expr) -> None:
        """Know no longer what code may change that is not read.

        That is each name that it binds, and each list or dict that it mentions: it may hand them
        to anything.
        """
        unknown = Unknown(_text(code))
        read: dict[int, str] = {}  # of the files below, where one entry is mentioned
        for node in ast.walk(code):
            match node:
                case ast.Attribute(value=ast.Name(id="_base_") as bases, attr=name, ctx=context):
                    if name in self.below:
                        read[id(bases)] = name
                        self._change(self.below[name], unknown)
                    if not isinstance(context, ast.Load):
                        self.below[name] = unknown
                case ast.Name(id="_base_") if id(node) not in read:
                    self._lose(self.below, unknown)
                case ast.Name(id=name) if name in REACH_ALL:
                    self._lose(self.values, unknown)
                    self._lose(self.below, unknown)
                case ast.Name(id=name, ctx=context):
                    self._change(self.values.get(name), unknown)  # += changes the list itself
                    if not isinstance(context, ast.Load):
                        self.values[name] = unknown
                case ast.Global(names=several):
                    self.values.update(dict.fromkeys(several, unknown))
                case ast.alias(name="*"):
                    self._lose(self.values, unknown)
                case ast.alias(name=name, asname=other):  # a class stands for its own name
                    self.values.pop(other or name.partition(".")[0], None)
                case _ if isinstance(own := getattr(node, "name", None), str):  # def, class, except
                    self.values[own] = unknown

    def _lose(self, holder: dict[str, Any], unknown: Unknown) -> None:
        for name in holder:
            self._change(holder[name], unknown)
            holder[name] = unknown

    def _change(self, value: Any, unknown: Unknown) -> None:
        for each in _containers(value, self.changed):
            self.changed[id(each)] = (each, unknown)


def unknown_in(value: Any, changed: Changed) -> Unknown | None:
    """Return which code may have changed a value or a part of it; None: none."""
    if isinstance(value, Unknown):
        return value
    found = (changed[id(each)][1] for each in _containers(value, ()) if id(each) in changed)
    return next(found, None)


def _containers(value: Any, known: Any) -> Iterator[Any]:
    """Yield the lists and dicts in a value, each once, but for those of ids that are known."""
    left, seen = [value], set[int]()
    while left:
        each = left.pop()
        if isinstance(each, list | dict) and id(each) not in seen and id(each) not in known:
            seen.add(id(each))
            left += each.values() if isinstance(each, dict) else each
            yield each


def _is_of_bases(node: ast.expr) -> bool:
    """Tell whether it is ``_base_`` or within, where attributes are items."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name) and node.id == BASES


def _text(node: ast.stmt | ast.expr) -> str:
    return f"{shown(ast.unparse(node))} in line {node.lineno}"


def _refuse(node: ast.expr) -> Any:
    raise NotLiteral(_text(node))
