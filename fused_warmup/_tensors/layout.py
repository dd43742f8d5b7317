"""How a tensor lies in memory."""

from torch import Tensor


def is_dense(tensor: Tensor) -> bool:
    """Tell whether a tensor fills its memory without holes or overlaps, in whatever order."""
    expected = 1
    for stride, size in sorted(
        (stride, size)
        for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
        if size > 1
    ):
        if stride != expected:
            return False
        expected *= size
    return True


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Tell whether one flat index serves two tensors of equal shape, both of them dense."""
    # torch keeps any number as the stride of a dimension of size 1.
    same = all(n == 1 or s == t for n, s, t in zip(a.shape, a.stride(), b.stride(), strict=True))
    return same or a.numel() == 0
