"""Averages and float32 masters in plain PyTorch: what `reference.py` does beside the update."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._tensors.memory import on_host
from .._tensors.shards import local_of


def widened(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which elements of ``dtype`` are updated."""
    return torch.float32 if dtype.is_floating_point and dtype.itemsize < 4 else dtype


def ema_weight(group: Mapping[str, Any], factor: float, t: int) -> float:
    """Return the weight of a parameter in its average after step ``t``; 0: the average stays.

    Steps and starts count as in Lightning's WeightAveraging. The first update of an average that is
    given a start is a copy, as torch's AveragedModel makes it, and until then it is a copy too.

    Args:
        group: The options: ``ema_decay``, ``ema_every`` and ``ema_start``.
        factor: That of the decay's schedule at the step.
        t: The step.
    """
    start, every = group["ema_start"], group["ema_every"]
    past = t % every
    if start is not None and t - start < (every if past == 0 else past):
        return 1.0
    return 1.0 - float(on_host(group["ema_decay"], 0.0)) * factor if past == 0 else 0.0


@torch.no_grad()
def reread_master(param: Tensor, master: Tensor) -> None:
    """Let a master follow a parameter that was written to, where it is not the master's rounding.

    Elements that nobody has changed keep their master, all its bits.
    """
    param, master = local_of(param), local_of(master)
    changed = param != master.to(param.dtype)
    master.copy_(torch.where(changed, param.to(master.dtype), master))
