"""Copies into tensors that an optimizer has: a load keeps these, for captured graphs hold them."""

from typing import Any, TypeGuard

import torch
from torch import Tensor

from ..._step.counters import making_state
from ..._tensors.layout import is_dense, same_layout
from ..._tensors.memory import has_memory, is_fake
from ..._tensors.shards import local_of, split_alike


class Copies:
    """Copies into tensors that an optimizer has, for when nothing can fail any more."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor | None]] = []

    def into(self, kept: Tensor, value: Tensor | None) -> Tensor:
        """Let ``kept`` become ``value``, of its dtype, shape and device; None: zeros."""
        self._waiting.append((kept, value))
        return kept

    def make(self) -> None:
        """Make them."""
        with making_state():
            for kept, value in self._waiting:
                if value is None:
                    kept.zero_()
                elif value is not kept:
                    kept.copy_(value)


def can_hold(kept: Any, like: Tensor, dtype: torch.dtype | None = None) -> TypeGuard[Tensor]:
    """Tell whether a tensor can take any values of one like ``like``, without a doubt.

    Args:
        kept: The tensor.
        like: The other.
        dtype: What ``kept`` must hold, if not what ``like`` does.
    """
    if not isinstance(kept, Tensor) or kept.layout != torch.strided:
        return False
    ours, theirs = local_of(kept), local_of(like)
    return (
        (type(ours) in (Tensor, torch.nn.Parameter) or is_fake(ours))
        and not ours.is_inference()
        and ours.grad_fn is None  # differentiable steps: a load ends their history
        and (kept.dtype, kept.shape, kept.device) == (dtype or like.dtype, like.shape, like.device)
        and split_alike(kept, like)
        and is_dense(ours)
        and has_memory(ours)
        and not ours.is_neg()
        and (same_layout(ours, theirs) or not is_dense(theirs))
    )
