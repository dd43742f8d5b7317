"""Reads a ``.py`` config of MMEngine without running it: it may come from anybody."""

import ast
import warnings
from pathlib import Path
from typing import Any

from ....schedules.checks import listed, shown
from ...files import read_bounded
from .literals import Changed, Names, NotLiteral, Unknown, unknown_in

WANTED = ("param_scheduler", "optim_wrapper", "train_cfg")
"""What is read of a config."""
MAX_BYTES = 1_000_000
MAX_FILES = 32
"""Most files that ``_base_`` leads to."""
MAX_MERGES = 100_000
"""Most dicts that are put over others."""
MAX_DEPTH = 200
"""Most levels of a file's syntax."""


def read_config(path: Path) -> dict[str, Any]:
    """Return what a config file assigns, over the files that it names under ``_base_``.

    Only literals, ``dict(...)``, arithmetic of numbers, names that the file assigns before, and
    items of these or of ``_base_`` are understood. What is none of these and concerns the rates is
    an error, anything else is passed over.

    Raises:
        OSError: A file cannot be read.
        ValueError: It is no Python, too large, or works out the rates in another way.
    """
    reader = _Reader()
    found = reader.read(path)
    wanted = {name: found[name] for name in WANTED if name in found}
    for name, value in wanted.items():
        if unknown := unknown_in(value, reader.changed):
            raise _not_literal(path, name, unknown.code)
    return wanted


def _not_literal(path: Path, name: str, code: object) -> ValueError:
    return ValueError(
        f"{path} says {name} by {code}, only literals, dict(...), arithmetic and names assigned "
        "before are read: write it out, or load the config with MMEngine and pass it"
    )


class _Reader:
    """The files of one config."""

    def __init__(self) -> None:
        self._count = self._merges = 0
        self.changed: Changed = {}

    def read(self, path: Path) -> dict[str, Any]:
        self._count += 1
        if self._count > MAX_FILES:
            raise ValueError(
                f"{path} is one of more than {MAX_FILES} files that _base_ leads to, which is the "
                "limit: give the param_scheduler alone"
            )
        tree = _parsed(path)
        names = Names(self._below(path, tree), self.changed)
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="_base_")]):
                    pass  # read before
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                ):
                    _assign(names, name, value)
                case ast.With(items=[ast.withitem(ast.Call(func=ast.Name(id="read_base")))]):
                    raise ValueError(
                        f"{path} has its bases by read_base(), only files that _base_ names are "
                        "read: load the config with MMEngine and pass it"
                    )
                case _:
                    names.doubt(statement)
        return self._merged(names.below, names.values)

    def _below(self, path: Path, tree: ast.Module) -> dict[str, Any]:
        """What the files assign that a file names under ``_base_``."""
        below: dict[str, Any] = {}
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="_base_")], value=value):
                    try:
                        bases = Names({}, {}).value(value)
                    except NotLiteral as error:
                        raise _not_literal(path, "_base_", error) from None
                    for base in [bases] if isinstance(bases, str) else listed("_base_", bases):
                        if "::" in str(base):
                            raise ValueError(
                                f"{path} has the base {shown(base)} of another package, only files "
                                "beside it are read: give the param_scheduler alone"
                            )
                        below |= self.read(path.parent / str(base))
        return below

    def _merged(self, below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        """Merge dicts, unless one says ``_delete_``, as MMEngine does; replace all else."""
        self._merges += 1
        if self._merges > MAX_MERGES:  # few lines of dicts that hold one twice make ever more
            raise ValueError(
                f"the files that _base_ leads to merge more than {MAX_MERGES} dicts, which is the "
                "limit: give the param_scheduler alone"
            )
        merged = dict(below)
        for name, value in above.items():
            old = below.get(name)
            if isinstance(value, dict):
                alone = value.get("_delete_", False)
                plain = {key: each for key, each in value.items() if key != "_delete_"}
                if alone or not isinstance(old, dict | Unknown):
                    value = plain
                else:
                    value = old if isinstance(old, Unknown) else self._merged(old, plain)
            merged[name] = value
        return merged


def _assign(names: Names, name: str, value: ast.expr) -> None:
    try:
        names.values[name] = names.value(value)
    except NotLiteral as error:
        names.doubt(value)
        names.values[name] = Unknown(str(error))


def _parsed(path: Path) -> ast.Module:
    bound = f"at most {MAX_BYTES} bytes are read"
    text = read_bounded(path, MAX_BYTES, bound, "give a config in Python")
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
