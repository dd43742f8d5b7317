"""Puts a recipe together from the files of its ``defaults``, as far as Hydra's rules go here."""

import re
from pathlib import Path
from typing import Any

from .interpolation import PARAMS, first_reference
from .text import read_mapping

OWN = ("default_train_params", "variable_setup")
"""SuperGradients' own files of defaults, whose values are known here: they may be missing."""
MAX_HEAD = 4096
"""How far into a file its package may be named, in bytes."""
MAX_FILES = 32
"""Most files that the ``defaults`` of a recipe lead to."""


class Files:
    """The files of one recipe, all within its folder.

    Groups whose package is another than the training parameters or ``_global_`` are read only where
    these refer to something, and only as far as their files are there.

    Args:
        path: The recipe.

    Attributes:
        has_shortcuts: Whether ``variable_setup`` is among the defaults.
    """

    def __init__(self, path: Path) -> None:
        self._path = _resolved(path)
        self._folder = self._path.parent
        self._open: list[Path] = []
        self._count = 0
        self._whole = False
        self._is_inside = False  # of the training parameters
        self._chosen: dict[str, Any] = {}
        self.has_shortcuts = False

    def compose(self) -> dict[str, Any]:
        """Return the whole recipe.

        Raises:
            OSError: A file cannot be read.
            ValueError: See `fused_warmup.conversions.super_gradients.file.read_recipe`.
        """
        recipe = self._composed()
        if first_reference(params_of(recipe)) is not None:
            self._whole, self._chosen = True, {}
            recipe = self._composed()
        return recipe

    def _composed(self) -> dict[str, Any]:
        """The recipe, once more where a file has overridden what came before it."""
        for _ in range(MAX_FILES):
            chosen = dict(self._chosen)
            self._count = 0
            recipe = self._compose(self._path)
            if self._chosen == chosen:
                return recipe
        raise ValueError(
            f"{self._path} leads to an override that leads to another, more than {MAX_FILES} "
            "times: give its training parameters alone"
        )

    def _compose(self, path: Path) -> dict[str, Any]:
        """Read a file over its defaults; those after ``_self_`` over the file, as Hydra has it."""
        self._check(path)
        own = read_mapping(path)
        entries = own.pop("defaults", None) or []
        if not isinstance(entries, list):
            raise ValueError(
                f"defaults in {path} is a {type(entries).__name__}, it must be a list of names: "
                "correct it there"
            )
        self._choose(entries)
        self._open.append(_resolved(path))
        composed: dict[str, Any] = {}
        for entry in entries if "_self_" in entries else [*entries, "_self_"]:
            if entry == "_self_":
                composed = merged(composed, own)
            elif isinstance(entry, str):
                self._within(path.parent / f"{entry}.yaml")
                group, _, name = entry.rpartition("/")
                found = self._of_group(path.parent, group, group.replace("/", "."), name)
                composed = merged(composed, found)
            elif isinstance(entry, dict):
                composed = merged(composed, self._groups(path.parent, entry))
        self._open.pop()
        return composed

    def _choose(self, entries: list[Any]) -> None:
        """Note which options ``override group: option`` puts in the place of a base's."""
        for entry in entries:
            if isinstance(entry, dict):
                for key, option in entry.items():
                    if str(key).startswith("override "):
                        self._chosen.setdefault(_place(key)[0], option)

    def _groups(self, folder: Path, entry: dict[Any, Any]) -> dict[str, Any]:
        composed: dict[str, Any] = {}
        for key, option in entry.items():
            if str(key).startswith("override "):
                continue
            group, package = _place(key)
            options = self._chosen.get(group, option)
            for each in options if isinstance(options, list) else [options]:
                if each is not None:
                    composed = merged(composed, self._of_group(folder, group, package, each))
        return composed

    def _of_group(self, folder: Path, group: str, package: str, option: Any) -> dict[str, Any]:
        """A file of a group under the names of its package, where that concerns the training."""
        path = folder / group / f"{option}.yaml"
        package = (self._package_of(path) if group else None) or package
        names = [name for name in package.split(".") if name not in ("", "_global_")]
        begins_inside = self._is_inside
        self._is_inside = begins_inside or names[:1] == [PARAMS]
        if self._is_inside or not names:
            content = self._named(path, option)
        else:
            content = self._compose(path) if self._whole and path.is_file() else {}
        self._is_inside = begins_inside
        if not content:
            return {}
        for name in reversed(names):
            content = {name: content}
        return content

    def _package_of(self, path: Path) -> str | None:
        """What a file says in its head: ``# @package _global_``."""
        if not _resolved(path).is_relative_to(self._folder) or not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(MAX_HEAD).decode("utf-8", "replace")
        found = re.search(r"^\s*#\s*@package[ \t]+(\S+)", head, re.MULTILINE)
        return found[1] if found and found[1] not in ("_group_", "_here_") else None

    def _named(self, path: Path, name: Any) -> dict[str, Any]:
        if name == "variable_setup":
            self.has_shortcuts = True
        if name in OWN and not path.is_file():
            # Among others it has these, and comes last: only then do they count if set later.
            return dict.fromkeys(("lr", "epochs", "ema")) if name == "variable_setup" else {}
        return self._compose(path)

    def _within(self, path: Path) -> Path:
        """The path itself, which must lie in the recipe's folder."""
        real = _resolved(path)
        if not real.is_relative_to(self._folder):
            raise ValueError(
                f"defaults name {path}, which is outside of the recipe's folder {self._folder}: "
                "only files within are read, copy it there"
            )
        return real

    def _check(self, path: Path) -> None:
        real = self._within(path)
        if real in self._open:
            raise ValueError(
                f"{path} names itself under defaults, at once or by way of others: take it out"
            )
        self._count += 1
        if self._count > MAX_FILES:
            raise ValueError(
                f"the recipe's defaults lead to more than {MAX_FILES} files, which is the limit: "
                "give its training parameters alone"
            )


def params_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the training parameters of a recipe, which may be all of it."""
    inner = recipe.get(PARAMS)
    return inner if isinstance(inner, dict) else recipe


def _place(key: Any) -> tuple[str, str]:
    """The folder of a group and the package of its values: of ``override /folder@package``."""
    words = str(key).split()
    group, _, package = (words[-1] if words else "").lstrip("/").partition("@")
    own = group.replace("/", ".")
    return group, own if package in ("", "_here_", "_group_") else package


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return one mapping over another, and so the mappings in them."""
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = merged(below[key], above[key])
    return both


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:  # links in a circle, before Python 3.13
        raise ValueError(f"{path} cannot be resolved ({error}): correct the link") from None
