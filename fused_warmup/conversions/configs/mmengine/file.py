"""Reads a ``.py`` config of MMEngine without running it: it may come from anybody."""

import ast
import operator
import stat
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ....schedules.checks import listed, shown

WANTED = ("param_scheduler", "optim_wrapper", "train_cfg")
"""What is read of a config."""
MAX_BYTES = 1_000_000
MAX_FILES = 32
"""Most files that ``_base_`` leads to."""
MAX_DEPTH = 200
"""Most levels of a file's syntax."""
HUGE = 2**63
"""Numbers from here on are refused: a few lines of squares would fill the memory."""
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def read_config(path: Path) -> dict[str, Any]:
    """Return what a config file assigns, over the files that it names under ``_base_``.

    Only literals, ``dict(...)``, arithmetic of numbers, and names that the file assigns before are
    understood. What is none of these and concerns the rates is an error, anything else is passed
    over.

    Raises:
        OSError: A file cannot be read.
        ValueError: It is no Python, too large, or works out the rates in another way.
    """
    return {name: value for name, value in _Reader().read(path).items() if name in WANTED}


class _NotLiteral(ValueError):
    """An expression that is not read."""


class _Reader:
    """The files of one config."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, path: Path) -> dict[str, Any]:
        self._count += 1
        if self._count > MAX_FILES:
            raise ValueError(
                f"{path} is one of more than {MAX_FILES} files that _base_ leads to, which is the "
                "limit: give the param_scheduler alone"
            )
        tree = _parsed(path)
        own: dict[str, Any] = {}
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._assign(path, own, name, value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._assign(path, own, name, value)
        below: dict[str, Any] = {}
        bases = own.pop("_base_", [])
        for base in [bases] if isinstance(bases, str) else listed("_base_", bases):
            if "::" in str(base):
                raise ValueError(
                    f"{path} has the base {shown(base)} of another package, only files beside it "
                    "are read: give the param_scheduler alone"
                )
            below |= self.read(path.parent / str(base))
        return _merged(below, own)

    def _assign(self, path: Path, own: dict[str, Any], name: str, value: ast.expr) -> None:
        try:
            own[name] = _value(value, own)
        except _NotLiteral as error:
            if name in (*WANTED, "_base_"):
                raise ValueError(
                    f"{path} says {name} by {error}, only literals, dict(...), arithmetic and "
                    "names assigned before are read: write it out, or load the config with "
                    "MMEngine and pass its param_scheduler"
                ) from None
            own.pop(name, None)


def _parsed(path: Path) -> ast.Module:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait, a device never end
        raise ValueError(f"{path} is no file: give a config in Python")
    with path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"{path} is too large, at most {MAX_BYTES} bytes are read: shorten it")
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text)
    except (MemoryError, RecursionError, SyntaxError, ValueError) as error:
        said = getattr(error, "msg", None) or error or type(error).__name__
        raise ValueError(f"{path} is no Python ({said}): correct it there") from None
    level, depth = list[ast.AST](tree.body), 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(f"{path} has more than {MAX_DEPTH} levels, no config does: shorten it")
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return tree


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """Work out a literal, a ``dict(...)``, arithmetic of numbers or a name that is known."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.Name(id=name):  # a class of MMEngine that the file has imported
            return name if name[:1].isupper() else _refuse(node)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, known) for item in items]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_key(key, known): _value(value, known) for key, value in pairs if key}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=items):
            if any(item.arg is None for item in items):
                _refuse(node)
            return {str(item.arg): _value(item.value, known) for item in items}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(operand, known)
        case ast.BinOp(op=op, left=left, right=right) if type(op) in ARITHMETIC:
            try:
                result = ARITHMETIC[type(op)](_number(left, known), _number(right, known))
            except ArithmeticError:
                _refuse(node)
            return result if abs(result) < HUGE else _refuse(node)
        case _:
            return _refuse(node)


def _key(node: ast.expr, known: Mapping[str, Any]) -> str | int | float | None:
    key = _value(node, known)
    return key if isinstance(key, str | int | float | None) else _refuse(node)


def _number(node: ast.expr, known: Mapping[str, Any]) -> float:
    value = _value(node, known)
    return value if isinstance(value, int | float) else _refuse(node)


def _refuse(node: ast.expr) -> Any:
    raise _NotLiteral(f"{shown(ast.unparse(node))} in line {node.lineno}")


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Dicts are merged, unless one says ``_delete_``, as MMEngine does; all else is replaced."""
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, dict):
            alone = value.get("_delete_", False)
            plain = {key: each for key, each in value.items() if key != "_delete_"}
            old = below.get(name)
            value = _merged(old, plain) if isinstance(old, dict) and not alone else plain
        merged[name] = value
    return merged
