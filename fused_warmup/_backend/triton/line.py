"""A program's share of the work: ``csrc/launch/line.h`` in Triton."""

import triton
import triton.language as tl

from .schedule import load_int64, places

SHARE_SIZE, SHARE_BEGIN, SHARE_ENTRY = map(tl.constexpr, places("Share", "size", "begin", "entry"))
N_ELEMENTS = tl.constexpr(*places("TensorEntry", "n_elements"))


@triton.jit
def cut_at(position, origin, n_elements):
    """Return a position of the line as an index into the tensor that begins at ``origin``."""
    return tl.minimum(tl.maximum(position - origin, 0), n_elements)


@triton.jit
def share_end(share):
    """Return where a share ends: the next one begins there."""
    return load_int64(share + SHARE_SIZE + SHARE_BEGIN)


@triton.jit
def span_of(entry, line, share):
    """Return which elements ``[begin, end)`` of a tensor, at ``line``, belong to a share."""
    origin, following = load_int64(line), load_int64(line + 8)
    n_elements = load_int64(entry + N_ELEMENTS)
    begin = cut_at(load_int64(share + SHARE_BEGIN), origin, n_elements)
    cut = cut_at(share_end(share), origin, n_elements)
    return begin, tl.where(share_end(share) >= following, n_elements, cut)
