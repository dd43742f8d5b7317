"""A model's parameters in the groups in which SuperGradients gives them to an optimizer.

Source: SuperGradients 3.7.1, training/utils/optimizer_utils.py (separate_lr_groups,
separate_zero_wd_params_groups_for_optimizer).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import Module, Parameter

NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
)


def by_name(
    named_parameters: Iterable[tuple[str, Parameter]], initial_lr: Mapping[str, float]
) -> dict[str, list[Parameter]]:
    """Return the parameters of each group of ``initial_lr``: those whose names begin with its own.

    ``default`` comes last and has all others that require gradients.

    Raises:
        ValueError: A group without parameters, or a parameter in two groups.
    """
    prefixes = [name for name in initial_lr if name != "default"]
    members: dict[str, list[Parameter]] = {name: [] for name in prefixes}
    members["default"] = []
    for pair in named_parameters:
        name, parameter = _checked(pair)
        owners = [prefix for prefix in prefixes if name.startswith(prefix)]
        if len(owners) > 1:
            raise ValueError(
                f"parameter {name!r} belongs to the groups {owners}, only one may own it: "
                "choose names in initial_lr of which none begins another"
            )
        if owners or not prefixes or parameter.requires_grad:
            members[owners[0] if owners else "default"].append(parameter)
    for name in prefixes:
        if not members[name]:
            raise ValueError(
                f"no parameter's name starts with {name!r}, a group of initial_lr: correct the "
                "name or drop it"
            )
    return members


def _checked(pair: Any) -> tuple[str, Any]:
    is_pair = isinstance(pair, tuple) and len(pair) == 2
    if not (is_pair and isinstance(pair[0], str) and isinstance(pair[1], Tensor)):
        raise TypeError(
            f"a recipe divides parameters by their names, got a {type(pair).__name__}: pass the "
            "model itself"
        )
    return pair[0], pair[1]


def without_decay(model: Module) -> set[int]:
    """Return the ids of the biases and of the normalization layers' weights.

    As SuperGradients has it: the weights of batch, group, layer and instance normalization, and
    what any module has as its ``bias``.
    """
    spared: set[int] = set()
    for module in model.modules():
        names = ("weight", "bias") if isinstance(module, NORMS) else ("bias",)
        found = (getattr(module, name, None) for name in names)
        spared.update(id(each) for each in found if isinstance(each, Parameter))
    return spared


def unwrapped(model: Module) -> Module:
    """Return the model whose parameters have the names that a recipe knows."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # of torch.compile
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = model.module
        if not isinstance(inner, Module):
            return model
        model = inner
