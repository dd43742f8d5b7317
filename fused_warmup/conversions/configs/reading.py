"""Reads the block of a config that moves the rates, and names what it does not know."""

import ast
import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ...schedules.checks import finite, shown, whole
from ..super_gradients.text import read_mapping


def mapping_of(given: Any, framework: str) -> Mapping[str, Any]:
    """Return a config's mapping: itself, the content of a YAML or JSON file, or an object's fields.

    Raises:
        TypeError: It is neither.
        OSError: The file cannot be read.
        ValueError: The file holds no mapping.
    """
    if isinstance(given, str | Path):
        return read_mapping(Path(given), python_tags=True)
    if isinstance(given, Mapping):
        return given
    if hasattr(given, "keys") and hasattr(given, "__getitem__"):  # MMEngine's Config
        return {key: given[key] for key in given.keys()}  # noqa: SIM118
    if hasattr(given, "__dict__") and not isinstance(given, type):  # argparse's Namespace
        return dict(vars(given))
    raise TypeError(
        f"a config of {framework} must be a mapping or the path of its file, got {shown(given)} of "
        f"type {type(given).__name__}: pass one of these"
    )


def block(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping within a config; an empty one where it has none.

    Raises:
        TypeError: It is something else.

    Example:
        >>> block({"optimizer": {"lr": 0.1}}, "optimizer"), block({}, "optimizer")
        ({'lr': 0.1}, {})
    """
    found = config.get(name)
    if found is not None and not isinstance(found, Mapping):
        raise TypeError(
            f"{name} must be a mapping, got {shown(found)} of type {type(found).__name__}: pass "
            "what stands in the config"
        )
    return dict(found or {})


def read_literal(text: str) -> Any:
    """Return the number, tuple or list that a text is; the text where it is none.

    Example:
        >>> read_literal("(60000, 80000)"), read_literal("linear")
        ((60000, 80000), 'linear')
    """
    try:
        return ast.literal_eval(text)
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        return text


def refuse_misspelt(given: Collection[str], known: Collection[str], framework: str) -> None:
    """Raise where a name is nearly one that is known: it would go unnoticed.

    Raises:
        ValueError: It is.

    Example:
        >>> refuse_misspelt(["WARMUP_ITER"], ["WARMUP_ITERS"], "Detectron2")
        Traceback (most recent call last):
            ...
        ValueError: 'WARMUP_ITER' is no option of Detectron2: did you mean 'WARMUP_ITERS'?
    """
    for name in given:
        near = difflib.get_close_matches(str(name), known, 1, cutoff=0.9)
        if near and name not in known:
            raise ValueError(f"{name!r} is no option of {framework}: did you mean {near[0]!r}?")


class Options:
    """The options of one config over a framework's defaults; it remembers which were asked for.

    Args:
        framework: Whose they are, for errors.
        given: What the config says.
        defaults: What the framework takes where it says nothing.
    """

    def __init__(
        self, framework: str, given: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> None:
        refuse_misspelt(given, defaults, framework)
        self._given, self._values = given, {**defaults, **given}
        self._asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self._asked.add(name)
        return self._values[name]

    def number(self, name: str, minimum: float = 0.0, **bounds: Any) -> float:
        """Return a real number of at least ``minimum``."""
        return finite(name, self[name], minimum, **bounds)

    def count(self, name: str, minimum: int = 0) -> int:
        """Return a whole number of at least ``minimum``; 3.0 is one, too."""
        value = self[name]
        return whole(name, int(value) if _is_whole_float(value) else value, minimum)

    def flag(self, name: str) -> bool:
        """Return a truth value; text is none, for "False" would be true.

        Raises:
            TypeError: It is something else.
        """
        value = self[name]
        if value not in (True, False, None):
            raise TypeError(f"{name} must be true or false, got {shown(value)}: write one of these")
        return bool(value)

    def choice(self, name: str, choices: Collection[str], *, fold: bool = False) -> str:
        """Return one of the names that are known here.

        Raises:
            ValueError: It is none of them.
        """
        value = self[name]
        found = value.lower() if fold and isinstance(value, str) else value
        if found not in choices:
            raise ValueError(
                f"{name} must be one of {sorted(choices)}, got {shown(value)}: use one of these, "
                "or build the schedule with fused_warmup.schedules"
            )
        return str(found)

    def left(self, *, unset: bool = True) -> dict[str, Any]:
        """Return what the config says that nothing here has asked for; with None and False?"""
        found = {name: value for name, value in self._given.items() if name not in self._asked}
        return {k: v for k, v in found.items() if unset or (v is not None and v is not False)}


def _is_whole_float(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()
