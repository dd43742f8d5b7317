"""Reads one file of a recipe, YAML or JSON, as far as it is one: it may come from anybody."""

import importlib.util
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ..files import read_bounded

MAX_BYTES = 65_536
"""Largest file, also with the aliases of its YAML written out; SuperGradients' own have 10 KB."""
MAX_DEPTH = 32
"""Most levels of mappings and lists in each other."""


def read_mapping(path: Path, *, python_tags: bool = False) -> dict[str, Any]:
    """Return the mapping that a file holds.

    Args:
        path: A file.
        python_tags: Whether values may be tagged to be made by Python. Tuples are made, as lists;
            of others the tag alone stands there as text, for whoever needs the value to refuse.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no file, too large, no YAML or JSON, or holds no mapping.
    """
    text = _read(path)
    content = _json(path, text) if path.suffix == ".json" else _yaml(path, text, python_tags)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, a mapping is needed")
    _check_depth(path, content)
    return content


def _read(path: Path) -> str:
    bound = f"a recipe has at most {MAX_BYTES} bytes"
    content = read_bounded(path, MAX_BYTES, bound, "give a recipe in YAML or JSON")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}): give a recipe in YAML or JSON") from None


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): correct it there") from None


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping of its pairs; of a key that stands there twice one value would be lost."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} stands twice in a mapping")
    return mapping


def _yaml(path: Path, text: str, python_tags: bool) -> Any:
    if importlib.util.find_spec("yaml") is None:
        raise ValueError(f"{path} needs PyYAML: pip install pyyaml, or give the recipe as JSON")
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Takes numbers without a point, or without a sign in the exponent, for numbers."""

        def get_single_node(self) -> Any:
            node = super().get_single_node()
            _written_out(path, node, {})
            return node

    exponent = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+.0123456789"))
    if python_tags:
        prefix = "tag:yaml.org,2002:python/"
        Loader.add_multi_constructor(prefix, lambda _, tag, __: f"!!python/{tag}")
        Loader.add_constructor(f"{prefix}tuple", Loader.construct_sequence)
    try:
        return yaml.load(text, Loader)
    except _TooLarge:
        raise
    except Exception as error:  # PyYAML's own, and whatever its constructors meet: "!!int ''"
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} is no YAML ({said}): correct it there") from None


class _TooLarge(ValueError):
    """Aliases that would grow beyond all bounds, or without end."""


def _written_out(path: Path, node: Any, known: dict[int, int]) -> int:
    """Return the characters of a node with all its aliases written out.

    Raises:
        _TooLarge: It has too many, or holds itself.
    """
    if node is None or isinstance(node.value, str):
        return 1 if node is None else 1 + len(node.value)
    if id(node) not in known:
        if node.id == "mapping":
            scalars = (key for key, _ in node.value if isinstance(key.value, str))
            _once([(key.value, key) for key in scalars if not key.tag.endswith(":merge")])
        known[id(node)] = MAX_BYTES + 1  # that is what a node inside itself has
        parts = [each for pair in node.value for each in pair] if node.id == "mapping" else None
        inside = node.value if parts is None else parts
        known[id(node)] = 1 + sum(_written_out(path, each, known) for each in inside)
    if known[id(node)] > MAX_BYTES:
        raise _TooLarge(
            f"{path} has more than {MAX_BYTES} characters once its aliases (*name) are written "
            "out: write values instead of aliases"
        )
    return known[id(node)]


def _check_depth(path: Path, content: Any) -> None:
    level, depth = [content], 0
    while level:
        if depth > MAX_DEPTH:
            raise ValueError(
                f"{path} has more than {MAX_DEPTH} levels of mappings and lists in each other, "
                "no recipe does: correct it there"
            )
        inside = [each.values() if isinstance(each, dict) else each for each in level]
        level = [v for values in inside for v in values if isinstance(v, (dict, list, set, tuple))]
        depth += 1
