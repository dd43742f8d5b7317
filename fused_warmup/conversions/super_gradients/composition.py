"""Puts a recipe together from the files of its ``defaults``, as far as Hydra's rules go here."""

from pathlib import Path
from typing import Any

from .interpolation import PARAMS, first_reference
from .text import read_mapping

OWN = ("default_train_params", "variable_setup")
"""SuperGradients' own files of defaults, whose values are known here: they may be missing."""
MAX_FILES = 32
"""Most files that the ``defaults`` of a recipe lead to."""


class Files:
    """The files of one recipe, all within its folder.

    Other groups than the training parameters are read only where these refer to something, and
    only as far as their files are there.

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
        self._chosen: dict[str, Any] = {}
        self.has_shortcuts = False

    def compose(self) -> dict[str, Any]:
        """Return the whole recipe.

        Raises:
            OSError: A file cannot be read.
            ValueError: See `fused_warmup.conversions.super_gradients.file.read_recipe`.
        """
        recipe = self._compose(self._path)
        if first_reference(params_of(recipe)) is not None:
            self._whole, self._count, self._chosen = True, 0, {}
            recipe = self._compose(self._path)
        return recipe

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
                composed = merged(composed, self._named(path.parent / f"{entry}.yaml", entry))
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
                        self._chosen.setdefault(_group(key), option)

    def _groups(self, folder: Path, entry: dict[Any, Any]) -> dict[str, Any]:
        composed: dict[str, Any] = {}
        for key, option in entry.items():
            if str(key).startswith("override "):
                continue
            group = _group(key)
            option = self._chosen.get(group, option)
            if option is None:
                continue
            path = folder / group / f"{option}.yaml"
            if group == PARAMS:
                composed = merged(composed, {group: self._named(path, option)})
            elif self._whole and path.is_file():
                composed = merged(composed, {group: self._compose(path)})
        return composed

    def _named(self, path: Path, name: Any) -> dict[str, Any]:
        if name == "variable_setup":
            self.has_shortcuts = True
        if name in OWN and not path.is_file():
            # Among others it has these, and comes last: only then do they count if set later.
            return dict.fromkeys(("lr", "epochs", "ema")) if name == "variable_setup" else {}
        return self._compose(path)

    def _check(self, path: Path) -> None:
        real = _resolved(path)
        if not real.is_relative_to(self._folder):
            raise ValueError(
                f"defaults name {path}, which is outside of the recipe's folder {self._folder}: "
                "only files within are read, copy it there"
            )
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


def _group(key: Any) -> str:
    """The folder of a group: ``override /training_hyperparams@_here_`` names it, too."""
    words = str(key).split()
    return words[-1].lstrip("/").partition("@")[0] if words else ""


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
