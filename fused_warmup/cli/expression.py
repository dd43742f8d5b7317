"""A schedule written as Python calls of the builders, read without running any code."""

import ast
from collections.abc import Callable
from typing import Any

from .. import schedules
from ..conversions import get_schedule
from ..schedules import Schedule

METHODS = ("then", "lasting", "scaled", "stretched")
BUILDERS: dict[str, Callable[..., Any]] = {
    name: getattr(schedules, name)
    for name in schedules.__all__
    if name.islower() and name != "from_callable"
} | {"get_schedule": get_schedule}


def parse_schedule(text: str) -> Schedule:
    """Return the schedule that an expression of builders and their methods makes.

    Calls of the names in `fused_warmup.schedules` and `get_schedule`, of ``.then``, ``.lasting``,
    ``.scaled`` and ``.stretched``, with numbers, strings, lists and keywords as arguments; anything
    else is an error. Nothing is evaluated as Python.

    Args:
        text: Such as ``linear_warmup(100).then(cosine(900, end=0.01))``.

    Raises:
        ValueError: It is no such expression.
        TypeError: A builder got other arguments than it takes.

    Example:
        >>> parse_schedule("linear_warmup(4).then(step(2, gamma=0.5))")
        Schedule(0: poly 0 -> 1 in 4; 4: exp 1 -> 0 in 2, on and on; steps=None)
        >>> parse_schedule("__import__('os')")
        Traceback (most recent call last):
            ...
        ValueError: __import__ is no builder: use one of constant, constant_warmup, ...
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no expression ({error.msg}): write cosine(900)") from None
    schedule = _value(tree.body)
    if not isinstance(schedule, Schedule):
        raise ValueError(f"{text!r} is a {type(schedule).__name__}, a schedule is needed")
    return schedule


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(each) for each in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(
            f"{ast.unparse(node)!r} is neither a number, a string nor a call of a builder: write "
            "something such as linear_warmup(100).then(cosine(900))"
        ) from None


def _call(node: ast.Call) -> Any:
    if isinstance(node.func, ast.Name):
        if node.func.id not in BUILDERS:
            names = ", ".join(list(BUILDERS)[:2])
            raise ValueError(f"{node.func.id} is no builder: use one of {names}, ...")
        function = BUILDERS[node.func.id]
    elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        owner = _value(node.func.value)
        if not isinstance(owner, Schedule):
            raise ValueError(f".{node.func.attr} belongs to a schedule, not to {owner!r}")
        function = getattr(owner, node.func.attr)
    else:
        raise ValueError(
            f"{ast.unparse(node.func)!r} cannot be called here: use builders and "
            f"{', '.join('.' + name for name in METHODS)}"
        )
    keywords = {each.arg: _value(each.value) for each in node.keywords if each.arg is not None}
    if len(keywords) < len(node.keywords):
        raise ValueError(f"** is not understood in {ast.unparse(node)!r}: write the keywords out")
    return function(*map(_value, node.args), **keywords)
