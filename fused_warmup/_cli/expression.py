"""A schedule written as Python calls of the builders, read without running any code."""

import ast
import difflib
import warnings
from collections.abc import Callable
from typing import Any

from .. import schedules
from ..conversions import get_schedule
from ..schedules import Schedule

METHODS = ("then", "lasting", "scaled", "stretched", "starting_at")
BUILDERS: dict[str, Callable[..., Any]] = {
    name: getattr(schedules, name)
    for name in schedules.__all__
    if name.islower() and name != "from_callable"
} | {"get_schedule": get_schedule}

MAX_TEXT = 10_000
"""Most characters of an expression."""
MAX_DEPTH = 300
"""Most levels of calls in each other; each ``.then(...)`` is two."""
MAX_MADE = 1_000_000
"""Most values and segments that the calls of one expression make, all together."""


def parse_schedule(text: str) -> Schedule:
    """Return the schedule that an expression of builders and their methods makes.

    Calls of the names in `fused_warmup.schedules` and `get_schedule`, of ``.then``, ``.lasting``,
    ``.scaled`` and ``.stretched``, with numbers, strings, lists and keywords as arguments; anything
    else is an error. Nothing is evaluated as Python.

    Args:
        text: Such as ``linear_warmup(100).then(cosine(900, end=0.01))``.

    Raises:
        ValueError: It is no such expression, or one that is too long or makes too much.
        TypeError: A builder got other arguments than it takes.

    Example:
        >>> parse_schedule("linear_warmup(4).then(step(2, gamma=0.5))")
        linear_warmup(4).then(step(2, gamma=0.5))
        >>> parse_schedule("__import__('os')")
        Traceback (most recent call last):
            ...
        ValueError: __import__ is no builder: use one of constant, ...
    """
    if len(text) > MAX_TEXT:
        raise ValueError(
            f"the expression has {len(text)} characters, at most {MAX_TEXT} are read: build it in "
            "Python instead"
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text.strip(), mode="eval")
    except (MemoryError, RecursionError):
        raise ValueError(_too_deep()) from None
    except (SyntaxError, ValueError) as error:
        said = getattr(error, "msg", error)
        raise ValueError(f"{shown(text)} is no expression ({said}): write cosine(900)") from None
    _check_depth(tree)
    schedule = _Reader(text.strip()).value(tree.body)
    if not isinstance(schedule, Schedule):
        raise ValueError(f"{shown(text)} is a {type(schedule).__name__}, a schedule is needed")
    return schedule


def shown(text: str) -> str:
    """Return a text in quotes, cut where it is long."""
    return repr(text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, BUILDERS, 1)
    meant = f", did you mean {near[0]}?" if near else ":"
    return f"{name} is no builder{meant} use one of {', '.join(BUILDERS)}"


def _too_deep() -> str:
    return (
        f"the expression has more than {MAX_DEPTH} levels, a .then(...) being two: join many "
        "schedules with join_schedules([...], [...])"
    )


def _check_depth(tree: ast.AST) -> None:
    level, depth = [tree], 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(_too_deep())
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1


class _Reader:
    """Works out the nodes of one expression."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._made = 0

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Call):
            result = self._call(node)
            if isinstance(result, Schedule):
                self._count(result)
            return result
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return self._product(node)
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self.value(each) for each in node.elts]
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise ValueError(
                f"{self._source(node)} is neither a number, a string nor a call of a builder: "
                "write something such as linear_warmup(100).then(cosine(900))"
            ) from None

    def _product(self, node: ast.BinOp) -> Schedule:
        left, right = self.value(node.left), self.value(node.right)
        if not isinstance(left, Schedule) and not isinstance(right, Schedule):
            raise ValueError(f"{self._source(node)} multiplies no schedule: write the number out")
        product: Schedule = left * right
        self._count(product)
        return product

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name):
            if node.func.id not in BUILDERS:
                raise ValueError(_unknown(node.func.id))
            function = BUILDERS[node.func.id]
        elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            owner = self.value(node.func.value)
            if not isinstance(owner, Schedule):
                raise ValueError(f".{node.func.attr} belongs to a schedule, not to {owner!r}")
            function = getattr(owner, node.func.attr)
        else:
            raise ValueError(
                f"{self._source(node.func)} cannot be called here: use builders and "
                f"{', '.join('.' + name for name in METHODS)}"
            )
        keywords: dict[str, Any] = {}
        for each in node.keywords:
            if each.arg is None or each.arg in keywords:
                what = "**" if each.arg is None else f"{each.arg} twice"
                raise ValueError(
                    f"{what} is not understood in {self._source(node)}: write each keyword out once"
                )
            keywords[each.arg] = self.value(each.value)
        return function(*map(self.value, node.args), **keywords)

    def _count(self, schedule: Schedule) -> None:
        segments = [segment for track in schedule.tracks for segment in track.segments]
        self._made += sum(len(segment.values) for segment in segments) + len(segments)
        if self._made > MAX_MADE:
            raise ValueError(
                f"the calls of {shown(self._text)} make more than {MAX_MADE} values of tables and "
                "segments, which is the limit here: shorten what is held as a table"
            )

    def _source(self, node: ast.AST) -> str:
        return shown(ast.get_source_segment(self._text, node) or "it")
