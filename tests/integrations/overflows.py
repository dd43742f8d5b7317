"""float16 training in which some batches overflow, as a plain loop over torch.optim.SGD."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from twins import OPTIONS, SCHEDULE, data, model

OVERFLOWS = {0, 3, 9}
"""Batches whose loss is infinite; the first step of all is one that fp16 often skips."""


def factor(batch: int) -> float:
    """What batch number ``batch`` multiplies its loss by."""
    return torch.inf if batch in OVERFLOWS else 1.0


def batches(epochs: int) -> list[tuple[Tensor, Tensor]]:
    """Eight batches an epoch, in order."""
    return [(x, y) for _ in range(epochs) for x, y in DataLoader(data(), batch_size=8)]


def plain_loop(
    inputs: Iterable[tuple[Tensor, Tensor]], accumulate: int = 1, clip: float | None = None
) -> tuple[nn.Module, list[float], int]:
    """Train, with the rate set by hand from the updates that were applied.

    Returns:
        The net, the rate that each step had (or would have had, were it not skipped), and the
        number of updates applied.
    """
    net = model()
    opt = torch.optim.SGD(net.parameters(), foreach=False, **OPTIONS)
    scaler = torch.amp.GradScaler("cpu")
    rates, applied = [], 0
    for batch, (x, y) in enumerate(inputs):
        with torch.autocast("cpu", torch.float16):
            loss = cross_entropy(net(x), y) * factor(batch)
        scaler.scale(loss / accumulate).backward()
        if (batch + 1) % accumulate:
            continue
        rates.append(OPTIONS["lr"] * SCHEDULE(applied))
        opt.param_groups[0]["lr"] = rates[-1]
        scaler.unscale_(opt)
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        scale = scaler.get_scale()
        scaler.step(opt)
        scaler.update()
        applied += scaler.get_scale() >= scale
        opt.zero_grad()
    return net, rates, applied
