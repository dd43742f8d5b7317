"""Tensors that share memory: their updates must come one after the other, in their order.

A kernel updates all tensors of a launch side by side, so that of two updates of the same memory one
would be lost. Tied weights that are two parameters (``b = Parameter(a)``), views of one another and
a parameter that a group holds twice are therefore updated in waves, a launch each. So is one whose
gradient lies in memory that the step updates, by torch's own operations.
"""

from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

from .._tensors.shards import local_of

Span = tuple[int, int]


def span_of(tensor: Tensor | None) -> Span | None:
    """Return the addresses of a tensor's first byte and of the one after its last.

    Returns:
        None where it has no memory of its own: empty, on meta, sparse, a wrapper around others.
    """
    if tensor is None:
        return None
    tensor = local_of(tensor)
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return None
    try:
        begin = tensor.data_ptr()
        strides = tensor.stride()
    except (RuntimeError, NotImplementedError):
        return None
    if tensor.is_meta or begin == 0 or tensor.numel() == 0:
        return None
    last = sum((n - 1) * s for n, s in zip(tensor.shape, strides, strict=True))
    return begin, begin + (last + 1) * tensor.element_size()


def overlapping(spans: Sequence[Sequence[Span | None]]) -> Iterator[tuple[int, int]]:
    """Yield the pairs ``i < j`` of owners of which a span of one overlaps one of the other.

    Args:
        spans: Those of each owner. A pair may come more than once.
    """
    flat = sorted((*span, i) for i, own in enumerate(spans) for span in own if span is not None)
    open_: list[tuple[int, int]] = []  # (end, owner) of spans that reach this far
    for begin, end, owner in flat:
        open_ = [(other_end, other) for other_end, other in open_ if other_end > begin]
        for _, other in open_:
            if other != owner:
                yield min(owner, other), max(owner, other)
        open_.append((end, owner))


def readers(
    written: Sequence[Sequence[Span | None]], read: Sequence[Span | None]
) -> list[tuple[int, int]]:
    """Return the pairs ``(i, j)`` where the update of i reads what that of j writes; i may be j.

    Args:
        written: The memory that each owner's update writes.
        read: What it only reads: its gradient.
    """
    n = len(written)
    pairs = overlapping([*written, *((span,) for span in read)])
    return [(second - n, first) for first, second in pairs if first < n <= second]


def waves(
    spans: Sequence[Sequence[Span | None]],
    in_order: Sequence[bool],
    read: Iterable[tuple[int, int]] = (),
) -> list[int]:
    """Return the wave in which each owner is updated: after all before it that it overlaps.

    Args:
        spans: The memory that each owner's update writes, owners in the order of their updates.
        in_order: Whether an owner's backend makes the updates of a wave in that order anyway.
        read: Pairs of owners of which one reads what the other writes.
    """
    before: dict[int, set[int]] = {}
    for pair in (*overlapping(spans), *read):
        first, second = sorted(pair)
        if first != second:
            before.setdefault(second, set()).add(first)
    found = [0] * len(spans)
    for owner in sorted(before):
        found[owner] = max(
            found[other] + (not (in_order[owner] and in_order[other])) for other in before[owner]
        )
    return found
