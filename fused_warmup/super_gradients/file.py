"""Reads the file of a recipe as SuperGradients does, which leaves that to Hydra."""

import importlib.util
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARAMS = "training_hyperparams"
"""The key of the training parameters in a whole recipe, and the folder of those that it names."""
WITHOUT_RATES = ("_self_", "default_train_params", "variable_setup")
"""Entries of ``defaults`` which move no rate: SuperGradients' own defaults are known here."""


def read_recipe(path: Path) -> Mapping[str, Any]:
    """Return the training parameters of a recipe, a YAML or a JSON file.

    Numbers such as ``1e-3``, which YAML 1.1 takes for text, are numbers, ``defaults`` are read from
    the files beside this one, and ``lr_updates`` may be a call of ``numpy.arange``.

    Args:
        path: A whole recipe, or its training parameters alone.

    Raises:
        OSError: The file, or one that its ``defaults`` name, cannot be read.
        ValueError: It is no YAML or JSON, holds no mapping, or PyYAML is not installed.
    """
    recipe = _compose(path)
    inner = recipe.get(PARAMS)
    params: dict[str, Any] = inner if isinstance(inner, dict) else recipe
    if isinstance(params.get("lr_updates"), dict):
        params = {**params, "lr_updates": _call(params["lr_updates"])}
    return params


def _compose(path: Path) -> dict[str, Any]:
    """The file over its defaults; those after ``_self_`` over the file, as Hydra has it."""
    own = _load(path)
    composed: dict[str, Any] = {}
    entries = own.pop("defaults", None) or []
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        if entry == "_self_":
            composed = _merge(composed, own)
        elif isinstance(entry, str) and entry not in WITHOUT_RATES:
            composed = _merge(composed, _compose(path.with_name(f"{entry}.yaml")))
        elif isinstance(entry, dict) and entry.get(PARAMS) not in (None, *WITHOUT_RATES):
            named = _compose(path.parent / PARAMS / f"{entry[PARAMS]}.yaml")
            composed = _merge(composed, {PARAMS: named})
    return composed


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merge(below[key], above[key])
    return merged


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text()) if path.suffix == ".json" else _load_yaml(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}): give a recipe in YAML or JSON") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}): correct it there") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, a mapping is needed")
    return content


def _load_yaml(path: Path) -> Any:
    if importlib.util.find_spec("yaml") is None:
        raise ValueError(f"{path} needs PyYAML: pip install pyyaml, or give the recipe as JSON")
    import yaml  # type: ignore[import-untyped]

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Takes numbers without a point, or without a sign in the exponent, for numbers."""

    exponent = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+.0123456789"))
    try:
        return yaml.load(path.read_text(), Loader)
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{path} is no YAML ({text}): correct it there") from None


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
    start, stop, step = call["start"], call["stop"], call.get("step", 1)
    return [start + i * step for i in range(math.ceil((stop - start) / step))]
