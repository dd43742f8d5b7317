"""Which parameters weight decay should leave alone."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..schedules.checks import finite, shown

_NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
_NORM_NAME = re.compile(r"Norm(\dd)?$")


def split_weight_decay(
    model: nn.Module | Iterable[tuple[str, torch.Tensor]],
    weight_decay: float,
    *,
    named: bool = False,
    **undecayed_options: Any,
) -> list[dict[str, Any]]:
    """Split parameters into a group with weight decay and a group without.

    Without: biases and scales, that is parameters of at most one dimension, parameters named
    "bias", and every parameter of a normalization layer (torch's, or a class whose name ends in
    "Norm", "Norm1d", "Norm2d" or "Norm3d"). With: all others. Each parameter is in exactly one
    group, once, in the model's order; one that is shared with a normalization layer goes without.
    Frozen parameters are kept, since they may be unfrozen later.

    Args:
        model: A module, or pairs of name and parameter as from ``model.named_parameters()``. The
            pairs do not tell which layer a parameter belongs to, so normalization layers are
            recognized by dimension only.
        weight_decay: Weight decay of the first group, at least 0.
        named: Give (name, parameter) pairs in the groups, as ``named_parameters()`` does.
        **undecayed_options: More options of the second group: ``adapt=False`` leaves it out of
            LARS's layer-wise rates, as is usual.

    Returns:
        Two groups for an optimizer, dicts of ``params`` and ``weight_decay``, the first with weight
        decay and the second without (0.0); either may be empty.

    Raises:
        TypeError: Something other than pairs of name and tensor.
        ValueError: No parameters; one that is not initialized yet; a negative ``weight_decay``.

    Source:
        He et al. 2019, "Bag of Tricks for Image Classification" (arXiv:1812.01187), section 3.1;
        Goyal et al. 2017 (arXiv:1706.02677), section 5.1, for batch normalization.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        >>> for group in split_weight_decay(model, 1e-4, named=True):
        ...     print(group["weight_decay"], [name for name, _ in group["params"]])
        0.0001 ['0.weight']
        0.0 ['0.bias', '1.weight', '1.bias']
    """
    weight_decay = finite("weight_decay", weight_decay, 0.0)
    norms: set[int] = set()
    if isinstance(model, nn.Module):
        for module in model.modules():
            if isinstance(module, _NORMS) or _NORM_NAME.search(type(module).__name__):
                norms.update(map(id, module.parameters(recurse=False)))
        pairs: Iterable[tuple[str, torch.Tensor]] = model.named_parameters()
    elif isinstance(model, Iterable):
        pairs = model
    else:
        raise TypeError(f"got {shown(model)}, it must be a model: pass the module itself, built")
    decayed: list[Any] = []
    undecayed: list[Any] = []
    seen: set[int] = set()
    for pair in pairs:
        name, parameter = _checked_pair(pair)
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        is_bias = name.rpartition(".")[2] == "bias"
        spared = parameter.ndim <= 1 or is_bias or id(parameter) in norms
        (undecayed if spared else decayed).append((name, parameter) if named else parameter)
    if not seen:
        raise ValueError("got no parameters, at least one is needed: pass a model with parameters")
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0, **undecayed_options},
    ]


def _checked_pair(pair: Any) -> tuple[str, torch.Tensor]:
    is_pair = isinstance(pair, tuple) and len(pair) == 2
    if not (is_pair and isinstance(pair[0], str) and isinstance(pair[1], torch.Tensor)):
        raise TypeError(
            f"parameters must be (name, tensor) pairs, got {type(pair).__name__}: pass the model "
            "or model.named_parameters()"
        )
    if isinstance(pair[1], nn.parameter.UninitializedParameter):
        raise ValueError(
            f"parameter {pair[0]!r} has no shape yet: run one forward pass before the split"
        )
    return pair[0], pair[1]
