"""Which optimizer training parameters name, with which options: SuperGradients' factory.

Source: SuperGradients 3.7.1, training/utils/optimizer_utils.py (build_optimizer),
training/params.py (defaults), common/factories/type_factory.py (names).
"""

import importlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from ..._optim.counted import CountedOptimizer
from ...schedules.checks import shown
from ...sgd import SGD
from .names import OPTIMIZER

TORCHS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}
OTHERS = {"rmsproptf": "RMSpropTF", "lamb": "Lamb", "lion": "Lion"}
"""Names of SuperGradients' own classes, which timm has too, by the same names and options."""
PACKAGES = ("super_gradients.training.utils.optimizers", "timm.optim")
REGISTRY = "super_gradients.common.registry.registry"
DEFAULTS: dict[str, dict[str, Any]] = {
    "SGD": {"weight_decay": 1e-4, "momentum": 0.9},
    "Adam": {"weight_decay": 1e-4},
    "RMSprop": {"weight_decay": 1e-4, "momentum": 0.9},
    "RMSpropTF": {"weight_decay": 1e-4, "momentum": 0.9},
}
"""Options that an optimizer has unless ``optimizer_params`` say otherwise."""


def optimizer_params(training_params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the optimizer beside its rate, SuperGradients' defaults included.

    Raises:
        TypeError: ``optimizer_params`` is no mapping.

    Example:
        >>> optimizer_params({"optimizer": "SGD", "optimizer_params": {"momentum": 0.8}})
        {'weight_decay': 0.0001, 'momentum': 0.8}
    """
    given = training_params.get("optimizer_params") or {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"optimizer_params={shown(given)} is a {type(given).__name__}, it must be a mapping of "
            "the optimizer's options: pass one, {} for none"
        )
    own = {str(name): value for name, value in given.items()}
    return {**DEFAULTS.get(_factory_name(named(training_params)), {}), **own}


def named(training_params: Mapping[str, Any]) -> Any:
    """Return what training parameters say of the optimizer: a name, a class, an instance."""
    return training_params.get("optimizer", OPTIMIZER["optimizer"])


def name_of(optimizer: Any) -> str:
    """Return what a summary calls an optimizer, without importing anything."""
    if isinstance(optimizer, str):
        return _known(optimizer) or optimizer
    if isinstance(optimizer, Optimizer):
        return type(optimizer).__name__
    return getattr(optimizer, "__name__", None) or type(optimizer).__name__


def follows_by_itself(optimizer: Any) -> bool:
    """Tell whether what is named, or takes its place, is an optimizer of this package."""
    cls = type(optimizer) if isinstance(optimizer, Optimizer) else optimizer
    is_ours = isinstance(cls, type) and issubclass(cls, CountedOptimizer)
    return is_ours or becomes_sgd(optimizer)


def becomes_sgd(optimizer: Any) -> bool:
    """Tell whether what is named is `fused_warmup.SGD`, or torch's, whose place that takes."""
    if isinstance(optimizer, type):
        return optimizer is torch.optim.SGD or issubclass(optimizer, SGD)
    paths = ("torch.optim.SGD", "fused_warmup.SGD")
    return isinstance(optimizer, str) and (_known(optimizer) == "SGD" or optimizer in paths)


def class_of(optimizer: Any) -> Any:
    """Return what to call with groups and options.

    Raises:
        TypeError: It is no name, no class of optimizers and no function.
        ValueError: Nobody has such a name, or it is in a package that is not installed.
    """
    if isinstance(optimizer, str):
        optimizer = _find(optimizer)
        if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
            raise TypeError(
                f"the recipe's optimizer is {optimizer!r}, it must be a class of optimizers: name "
                "one, or pass optimizer_class="
            )
    if optimizer is torch.optim.SGD:
        return SGD
    if isinstance(optimizer, Optimizer) or not callable(optimizer):
        raise TypeError(
            f"the recipe's optimizer is {shown(optimizer)} of type {type(optimizer).__name__}, it "
            "must be a name or a class: name one, or pass optimizer_class="
        )
    return optimizer


def _find(name: str) -> Any:
    known = _known(name)
    if known is not None and known in TORCHS.values():
        return getattr(torch.optim, known)
    registry = getattr(sys.modules.get(REGISTRY), "OPTIMIZERS", {})
    if name in registry:
        return registry[name]
    if known is not None:
        return _of_packages(known)
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        listed = ", ".join((*TORCHS.values(), *OTHERS.values()))
        raise ValueError(
            f"the recipe's optimizer {shown(name)} is unknown ({error}), it must be one of "
            f"{listed}, or a class with its module, as torch.optim.ASGD: correct it, or pass "
            "optimizer_class="
        ) from None


def _of_packages(name: str) -> Any:
    said = []
    for package in PACKAGES:
        try:
            return getattr(importlib.import_module(package), name)
        except (ImportError, AttributeError) as error:
            said.append(str(error))
    raise ValueError(
        f"the recipe's optimizer {name} is one of SuperGradients and of timm, neither of which can "
        f"be imported ({'; '.join(said)}): pip install timm, or pass optimizer_class="
    )


def _known(name: str) -> str | None:
    """SuperGradients takes names without regard to case and symbols."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return TORCHS.get(plain) or OTHERS.get(plain)


def _factory_name(optimizer: Any) -> str:
    """The name under which the factory has options: of its own classes, however they are named."""
    if isinstance(optimizer, str):
        prefix, _, last = optimizer.rpartition(".")
        return last if prefix in ("torch.optim", PACKAGES[0]) else _known(optimizer) or ""
    for name in TORCHS.values():
        if optimizer is getattr(torch.optim, name):
            return name
    own = str(getattr(optimizer, "__module__", "")).startswith(PACKAGES[0])
    return str(getattr(optimizer, "__name__", "")) if own else ""
