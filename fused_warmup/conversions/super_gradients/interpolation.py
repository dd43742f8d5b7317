"""``${...}`` in recipes: what refers to other entries, as OmegaConf resolves it.

Only values that a recipe takes over are resolved, one text at a time: others may refer to what is
known on the training machine alone.
"""

import importlib.util
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

from .names import TAKEN

PARAMS = "training_hyperparams"
"""The key of the training parameters in a whole recipe, and the folder of those that it names."""
NEEDED = {*TAKEN, "clip_grad_norm", "mixed_precision", "sync_bn", "precise_bn", "torch_compile"}
MAX_RESOLVED = 64
"""Most texts that are resolved for one recipe; SuperGradients' own have none."""
MAX_BRANCHES = 10
"""Most further ``${`` in texts that have one already, of a whole recipe: each may double the
work."""
RESOLVERS: dict[str, Callable[..., Any]] = {
    "class": lambda path: path,  # a name with dots, as an optimizer may be given
    "add": lambda *terms: sum(terms),
    "div": operator.truediv,
    "mul": lambda *factors: reduce(operator.mul, map(float, factors)),
    "cond": lambda condition, x, y: x if condition else y,
    "getitem": lambda container, key: container[key],
    "first": lambda items: items[0],
    "last": lambda items: items[-1],
    "len": len,
}
"""SuperGradients' own, of common/environment/omegaconf_utils.py."""


def first_reference(params: Mapping[str, Any]) -> str | None:
    """Return the first parameter that is needed and holds ``${...}``, at any depth; else None."""
    for name, value in params.items():
        if name in NEEDED and any("${" in text for text in _texts(value)):
            return name
    return None


def plain(params: Any) -> Any:
    """Return training parameters as a plain mapping: those of an OmegaConf config are resolved.

    A whole recipe has them in it, SuperGradients' TrainingParams as attributes. What is none of
    these is returned as it is.
    """
    if callable(getattr(params, "to_dict", None)):
        params = params.to_dict()
    if isinstance(params, Mapping) and isinstance(params.get(PARAMS), Mapping):
        params = params[PARAMS]
    of_omegaconf = type(params).__module__.startswith("omegaconf.")
    if not of_omegaconf or not _omegaconf().is_dict(params):
        return params
    unresolved = _omegaconf().to_container(params)
    needed = [
        name for name in unresolved if name in NEEDED and not _omegaconf().is_missing(params, name)
    ]
    return {
        **{name: value for name, value in unresolved.items() if name not in NEEDED},
        **{name: _container(params[name]) for name in needed},
    }


def _container(value: Any) -> Any:
    if _omegaconf().is_config(value):
        return _omegaconf().to_container(value, resolve=True)
    return value


def resolved(path: Path, recipe: Mapping[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Return training parameters of a file with the references of those that are needed resolved.

    Args:
        path: The file, for errors.
        recipe: The whole recipe, to which references are relative.
        params: Its training parameters, or the recipe itself where it has nothing else.

    Raises:
        ValueError: OmegaConf is not installed; a reference leads nowhere, or to too much.
    """
    name = first_reference(params)
    if name is None:
        return params
    if importlib.util.find_spec("omegaconf") is None:
        raise ValueError(
            f"{name} in {path} refers to another entry by ${{...}}, which needs OmegaConf: pip "
            "install omegaconf, or write the value out"
        )
    branches = sum(max(text.count("${") - 1, 0) for text in _texts(recipe))
    if branches > MAX_BRANCHES:
        raise ValueError(
            f"{path} has {branches} texts with a further ${{...}} in them, at most {MAX_BRANCHES} "
            "are resolved: write values out"
        )
    whole = {PARAMS: params} if recipe is params else recipe
    try:
        with _resolvers():
            wanted = {name: value for name, value in params.items() if name in NEEDED}
            return {**params, **_Reader().mapping(_omegaconf().create(whole)[PARAMS], wanted)}
    except Exception as error:  # OmegaConf's own, and whatever a resolver meets
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path} has a ${{...}} that cannot be resolved ({said}): write it out"
        ) from None


class _Reader:
    """Reads plain values out of a config, the references among them resolved."""

    def __init__(self) -> None:
        self._count = 0

    def mapping(self, config: Any, values: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the entries of a config of which ``values`` are the plain form."""
        return {key: self._value(config, key, value) for key, value in values.items()}

    def _value(self, config: Any, key: Any, value: Any) -> Any:
        if isinstance(value, str) and "${" in value:
            self._count += 1
            if self._count > MAX_RESOLVED:
                raise ValueError(f"more than {MAX_RESOLVED} texts refer to others")
            found = config[key]
            if not _omegaconf().is_config(found):
                return found
            config, value = {key: found}, _omegaconf().to_container(found)
        return self._inside(config[key], value) if isinstance(value, (dict, list)) else value

    def _inside(self, config: Any, value: Any) -> Any:
        if isinstance(value, dict):
            return self.mapping(config, value)
        return [self._value(config, i, each) for i, each in enumerate(value)]


@contextmanager
def _resolvers() -> Iterator[None]:
    """SuperGradients' resolvers, where nobody has registered others of their names."""
    ours = [name for name in RESOLVERS if not _omegaconf().has_resolver(name)]
    with warnings.catch_warnings(action="ignore"):  # OmegaConf 2.4 has another name for it
        for name in ours:
            _omegaconf().register_new_resolver(name, RESOLVERS[name])
    try:
        yield
    finally:
        for name in ours:
            _omegaconf().clear_resolver(name)


def _omegaconf() -> Any:
    from omegaconf import OmegaConf

    return OmegaConf


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)
