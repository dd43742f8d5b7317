"""LARS in plain PyTorch: norms and trust ratios, ``csrc/math/lars.h`` restated."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._tensors.shards import local_of

SUM_LANES = 128
MIN_CHUNK = 32 * SUM_LANES
MAX_CHUNKS = 4096


def chunk_size(n_elements: int) -> int:
    """Return how many elements are added up before the sums of chunks are."""
    size = MIN_CHUNK
    while n_elements > size * MAX_CHUNKS:
        size *= 2
    return size


def sum_of_squares(values: Tensor, like: Tensor) -> Tensor:
    """Return the sum of a tensor's squares, float64, in the one order that all backends keep.

    Args:
        values: A tensor, or what this rank holds of one.
        like: The parameter, in the order of whose memory elements are counted.
    """
    values, like = local_of(values), local_of(like)
    if values.is_complex():
        values, like = torch.view_as_real(values.resolve_conj()), torch.view_as_real(like)
    # Of two dimensions of equal stride, one has a single element.
    order = sorted(range(like.ndim), key=lambda d: (like.stride(d), like.shape[d]), reverse=True)
    flat = values.permute(order).reshape(-1).to(torch.float64)
    chunk = chunk_size(flat.numel())
    n_chunks = max(-(-flat.numel() // chunk), 1)
    chunks = torch.nn.functional.pad(flat.square(), (0, n_chunks * chunk - flat.numel()))
    return _sum_rows(_sum_rows(chunks.view(n_chunks, chunk))[None])[0]


def _sum_rows(values: Tensor) -> Tensor:
    """Return the sum of each row: by lanes, which the elements go to in turn, then by halves."""
    n = max(-(-values.shape[1] // SUM_LANES), 1) * SUM_LANES
    padded = torch.nn.functional.pad(values, (0, n - values.shape[1]))
    lanes = torch.zeros(len(values), SUM_LANES, dtype=values.dtype, device=values.device)
    for turn in padded.view(len(values), -1, SUM_LANES).unbind(1):
        lanes += turn
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def layer_rate_of(
    squares: Sequence[float], group: Mapping[str, Any], lr: float, most: float
) -> tuple[float, float]:
    """Return the factor on a tensor's gradient, and that on what becomes of it.

    Args:
        squares: The sums of the tensor's squares and of its gradient's.
        group: Options, plain numbers.
        lr: The group's rate at this step.
        most: The greatest number of the arithmetic: a rate stays finite.
    """
    rate = trust_ratio(squares, group, lr)
    if group["lr_in_momentum"]:  # the momentum is what a step subtracts
        rate, lr = lr * rate, 1.0
    return (most if rate > most else rate), lr


def trust_ratio(squares: Sequence[float], group: Mapping[str, Any], lr: float) -> float:
    """Return a tensor's trust ratio; see `layer_rate_of`."""
    if not group["adapt"] or not all(square > 0 for square in squares):
        return 1.0
    param, grad = map(math.sqrt, squares)
    below = grad + float(group["weight_decay"]) * param + float(group["eps"])
    ratio = float(group["trust_coefficient"]) * param / below
    if not group["trust_clip"]:
        return ratio
    return ratio / lr if ratio < lr else 1.0
