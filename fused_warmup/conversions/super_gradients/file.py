"""Reads the file of a recipe as SuperGradients does, which leaves that to Hydra."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...schedules.checks import finite
from .options import MAX_UPDATES
from .text import read_mapping

PARAMS = "training_hyperparams"
"""The key of the training parameters in a whole recipe, and the folder of those that it names."""
WITHOUT_RATES = ("_self_", "default_train_params", "variable_setup")
"""Entries of ``defaults`` which move no rate: SuperGradients' own defaults are known here."""
MAX_FILES = 32
"""Most files that the ``defaults`` of a recipe lead to."""


def read_recipe(path: Path) -> Mapping[str, Any]:
    """Return the training parameters of a recipe, a YAML or a JSON file.

    Numbers such as ``1e-3``, which YAML 1.1 takes for text, are numbers, ``defaults`` are read from
    the files beside this one, and ``lr_updates`` may be a call of ``numpy.arange``.

    Args:
        path: A whole recipe, or its training parameters alone.

    Raises:
        OSError: The file, or one that its ``defaults`` name, cannot be read.
        ValueError: It is no YAML or JSON, holds no mapping, or PyYAML is not installed; it is too
            large; its ``defaults`` name itself, too many files, or one outside of its folder.
    """
    real = _resolved(path)
    recipe = _Files(real.parent).compose(real)
    inner = recipe.get(PARAMS)
    params: dict[str, Any] = inner if isinstance(inner, dict) else recipe
    if isinstance(params.get("lr_updates"), dict):
        params = {**params, "lr_updates": _call(params["lr_updates"])}
    return params


class _Files:
    """The files of one recipe, all within its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[Path] = []
        self._count = 0

    def compose(self, path: Path) -> dict[str, Any]:
        """Read a file over its defaults; those after ``_self_`` over the file, as Hydra has it."""
        self._check(path)
        own = read_mapping(path)
        entries = own.pop("defaults", None) or []
        if not isinstance(entries, list):
            raise ValueError(
                f"defaults in {path} is a {type(entries).__name__}, it must be a list of names: "
                "correct it there"
            )
        self._open.append(_resolved(path))
        composed: dict[str, Any] = {}
        for entry in entries if "_self_" in entries else [*entries, "_self_"]:
            if entry == "_self_":
                composed = _merge(composed, own)
            elif isinstance(entry, str) and entry not in WITHOUT_RATES:
                composed = _merge(composed, self.compose(path.parent / f"{entry}.yaml"))
            elif isinstance(entry, dict) and entry.get(PARAMS) not in (None, *WITHOUT_RATES):
                named = self.compose(path.parent / PARAMS / f"{entry[PARAMS]}.yaml")
                composed = _merge(composed, {PARAMS: named})
        self._open.pop()
        return composed

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


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:  # links in a circle, before Python 3.13
        raise ValueError(f"{path} cannot be resolved ({error}): correct the link") from None


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merge(below[key], above[key])
    return merged


def _call(call: dict[str, Any]) -> list[float]:
    """What Hydra makes of ``_target_`` for ``lr_updates``."""
    target = str(call.get("_target_"))
    if target.endswith(".empty_list"):
        return []
    if target != "numpy.arange" or not {"start", "stop"} <= call.keys():
        raise ValueError(
            f"lr_updates calls {target!r}, only numpy.arange with start and stop is understood: "
            "write the epochs out as a list"
        )
    for name in ("start", "stop", "step"):
        finite(f"{name} of lr_updates", call.get(name, 1))
    start, stop, step = call["start"], call["stop"], call.get("step", 1)
    count = (stop - start) / step if step else math.inf
    if not count <= MAX_UPDATES:
        raise ValueError(
            f"lr_updates calls numpy.arange({start}, {stop}, {step}), at most {MAX_UPDATES} epochs "
            "are made: choose a larger step"
        )
    return [start + i * step for i in range(math.ceil(count))]
