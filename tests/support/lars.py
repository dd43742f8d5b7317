"""LARS restated in float64 for whole tensors, and what tests of it on all backends share."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fused_warmup import LARS, linear_warmup
from support import OPTIONS, parameter, randn, set_grads

# Around a lane, a vector, a row of lanes, a chunk and a share of the CPU's.
SHAPES = ((3,), (127,), (128,), (129,), (70, 71), (4096,), (4097,), (8, 3, 3, 3), (40_000,))

LARS_OPTIONS: list[dict[str, Any]] = [
    {**options, "lr_in_momentum": lr_in_momentum, "trust_clip": clip, "adapt": adapt}
    for options, lr_in_momentum, clip, adapt in itertools.product(
        OPTIONS, (True, False), (False, True), (True, False)
    )
    if adapt or not clip
]
"""Every combination of SGD's options and LARS's switches."""

EXTRAS: dict[str, Any] = {"ema_decay": 0.9, "master_weights": True}


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


def trained(
    options: dict[str, Any],
    dtypes: tuple[torch.dtype, torch.dtype] = (torch.float32, torch.float32),
    *,
    backend: str,
    scale: float | None = None,
    steps: int = 3,
    offset: int = 0,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    before: Callable[[], object] = lambda: None,
    device: str = "cpu",
) -> LARS:
    """Step an optimizer of two groups, with a parameter and a gradient of zeros among them.

    A parameter of four dimensions is in another order of memory. `offset` elements keep the others
    from a 16-byte boundary; `before` is called before each step but the first.
    """
    params = []
    for i, shape in enumerate(shapes):
        whole = randn(torch.Size(shape).numel() + offset, seed=i, dtype=dtypes[0]).to(device)
        p = whole[offset:].view(shape)
        if len(shape) == 4:
            p = p.to(memory_format=torch.channels_last)
        params.append(parameter(p if i else torch.zeros_like(p), dtypes[1]))
    half = len(params) // 2
    groups = [{"params": params[:half]}, {"params": params[half:], "lr": 0.3, "weight_decay": 0.1}]
    options = {"schedule": linear_warmup(4, start=0.5), **options}
    opt = LARS(groups, lr=2.0, backend=backend, **options)
    for step in range(steps):
        set_grads(params, step)
        params[1].grad.zero_()
        if scale is not None:
            for p in params:
                p.grad.mul_(scale)
            opt.grad_scale, opt.found_inf = torch.tensor(scale), torch.tensor(0.0)
        if step:
            before()
        opt.step()
    return opt
