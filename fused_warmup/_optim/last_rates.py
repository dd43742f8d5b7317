"""The rates that the last applied step used: a tensor a device, which its kernel writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._groups import options
from .._step.counters import Counters, making_state
from .._tensors.memory import is_row

Rates = dict[torch.device, Tensor]
"""float64, one element a group, on each device that holds a count."""


def refresh(
    rates: Rates, groups: Sequence[Mapping[str, Any]], counters: Counters, *, keep: bool
) -> None:
    """Fill the tensors from the count and the groups, in place where they exist.

    Args:
        rates: The tensors.
        groups: The optimizer's groups.
        counters: Its counters.
        keep: Leave the rates alone that are there, and add those of devices and groups that are
            new. Synchronises only where there are such, after the first step.
    """
    n = len(groups)
    devices = {*counters.by_device} or {torch.device("cpu")}
    if keep:
        devices = {d for d in devices if not _has(rates, d, n)}
    if not devices:
        return
    with making_state():
        in_force = options.InForce(max(counters.value() - 1, 0))
        for device in devices:
            kept = torch.empty(0, dtype=torch.float64, device=device)
            if device in rates and _has(rates, device, len(rates[device])):
                kept = rates[device]
            first = len(kept) if keep and len(kept) < n else 0
            new = [in_force.lr(group).to(device) for group in groups[first:]]
            values = torch.cat((kept[:first], torch.stack(new)))
            rates[device] = kept.copy_(values) if kept.shape == values.shape else values


def _has(rates: Rates, device: torch.device, n_groups: int) -> bool:
    """Tell whether there is a place for the rates, as it was made; users may have cast it."""
    return device in rates and is_row(rates[device], n_groups)
