"""LARS restated in float64 for whole tensors, and the options that tests of it go through."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from support import OPTIONS

LARS_OPTIONS: list[dict[str, Any]] = [
    {**options, "lr_in_momentum": lr_in_momentum, "trust_clip": clip, "adapt": adapt}
    for options, lr_in_momentum, clip, adapt in itertools.product(
        OPTIONS, (True, False), (False, True), (True, False)
    )
    if adapt or not clip
]
"""Every combination of SGD's options and LARS's switches."""


def lars_in_float64(
    param: Tensor,
    grad: Tensor,
    velocity: Tensor | None,
    options: Mapping[str, Any],
    lr: float,
) -> tuple[Tensor, Tensor]:
    """Return the parameter and the velocity after a step, by the formulas of the paper."""
    p, g = param.double(), grad.double()
    g = -g if options.get("maximize") else g
    decay, momentum = options.get("weight_decay", 0.0), options.get("momentum", 0.0)
    p_norm, g_norm = p.norm().item(), g.norm().item()
    ratio = 1.0
    if options.get("adapt", True) and p_norm > 0 and g_norm > 0:
        below = g_norm + decay * p_norm + options.get("eps", 0.0)
        ratio = options.get("trust_coefficient", 0.001) * p_norm / below
        if options.get("trust_clip"):
            ratio = min(ratio / lr, 1.0)
    inside, outside = (lr, 1.0) if options.get("lr_in_momentum", True) else (1.0, lr)
    d = inside * ratio * (g + decay * p)
    if momentum == 0:
        return p - outside * d, torch.zeros_like(p)
    weight = 1.0 if velocity is None else 1.0 - options.get("dampening", 0.0)
    velocity = (0.0 if velocity is None else momentum * velocity) + weight * d
    ahead = d + momentum * velocity if options.get("nesterov") else velocity
    return p - outside * ahead, velocity
