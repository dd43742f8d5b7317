"""Reads the file of a recipe as SuperGradients does, which leaves that to Hydra."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...schedules.checks import finite
from .composition import Files, params_of
from .interpolation import resolved
from .options import MAX_UPDATES

SHORTCUTS = {"lr": "initial_lr", "epochs": "max_epochs", "ema": "ema"}
"""Names at the top of a recipe that go before training parameters, with ``variable_setup``."""
BEFORE_TRAINING = "pre_launch_callbacks_list"


def read_recipe(path: Path) -> Mapping[str, Any]:
    """Return the training parameters of a recipe, a YAML or a JSON file.

    Numbers such as ``1e-3``, which YAML 1.1 takes for text, are numbers, ``defaults`` are read from
    the files beside this one, ``${...}`` by OmegaConf, and ``lr_updates`` may be a call of
    ``numpy.arange``.

    Args:
        path: A whole recipe, or its training parameters alone.

    Raises:
        OSError: The file, or one that its ``defaults`` name, cannot be read.
        ValueError: It is no YAML or JSON, holds no mapping, or a package that it needs is not
            installed; it is too large; its ``defaults`` name itself, too many files, or one
            outside of its folder.
    """
    files = Files(path)
    recipe = files.compose()
    params = resolved(path, recipe, params_of(recipe))
    if files.has_shortcuts:
        given = {name: recipe[name] for name in SHORTCUTS if recipe.get(name) is not None}
        params = {**params, **{SHORTCUTS[name]: value for name, value in given.items()}}
    if recipe.get(BEFORE_TRAINING):
        params = {**params, BEFORE_TRAINING: recipe[BEFORE_TRAINING]}
    if isinstance(params.get("lr_updates"), dict):
        params = {**params, "lr_updates": _call(params["lr_updates"])}
    return params


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
