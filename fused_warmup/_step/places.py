"""Which part of a step updates each parameter: by backend and device, and by who shares memory."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._groups.names import describe
from .._tensors.layout import is_dense
from .._tensors.shards import local_of
from .counters import State, home
from .overlaps import Span, overlapping, readers, span_of, waves
from .routing import backend_of

Members = Sequence[tuple[Tensor, int]]
"""Parameters, each with the index of its group."""


class Place(NamedTuple):
    """What one part serves."""

    wave: int  # see overlaps.py
    is_native: bool  # the reference comes first: it alone may meet an error in its launch
    backend: str
    device: torch.device


WRITTEN = ("momentum_buffer", "ema", "master_param")
"""What a step writes of a parameter's state, beside scalars."""


def written_by(members: Members, state: State) -> list[tuple[Span | None, ...]]:
    """Return where each parameter and what a step writes of its state lie."""
    return [
        (span_of(p), *(span_of(state[p][name]) for name in WRITTEN if name in state[p]))
        for p, _ in members
    ]


def places_of(
    members: Members, state: State, groups: Sequence[Mapping[str, Any]], backend: str | None
) -> tuple[list[Place], bool]:
    """Return the part that each parameter goes to, and whether any reads what the step writes.

    Raises:
        TypeError: A gradient does, and ``backend`` is one that cannot tell in which order.
        ValueError: Two parameters with masters share memory.
    """
    _check_masters(members, state, groups)
    names = [backend_of(p, groups[index], backend) for p, index in members]
    written = written_by(members, state)
    read = readers(written, [span_of(p.grad) for p, _ in members])
    shared = {reader for reader, _ in read}
    shared |= {i for i, own in enumerate(written) if any(overlapping([(span,) for span in own]))}
    for i in shared:
        if names[i] != "reference" and backend is not None:
            p, index = members[i]
            raise TypeError(
                f"the gradient or the momentum_buffer of {describe(p, groups[index])} "
                f"shares memory with what the step updates, which backend={backend!r} does side "
                "by side: clone() it, or pass backend=None, which finds a way"
            )
        names[i] = "reference"
    native = [name != "reference" for name in names]
    order = waves(written, [not each for each in native], read)
    places = [
        Place(wave, is_native, name, home(p))
        for wave, is_native, name, (p, _) in zip(order, native, names, members, strict=True)
    ]
    return places, bool(shared)


def _check_masters(members: Members, state: State, groups: Sequence[Mapping[str, Any]]) -> None:
    """Raise where two parameters share elements and each has a master of its own.

    Each would take what the other writes, rounded, for a change from elsewhere, and small updates
    would be lost. Memory with holes may lie between other elements.
    """
    own = {
        id(p): (p, i) for p, i in members if "master_param" in state[p] and is_dense(local_of(p))
    }
    wide = list(own.values())
    for first, second in overlapping([(span_of(p),) for p, _ in wide]):
        (p, i), (q, j) = wide[first], wide[second]
        raise ValueError(
            f"{describe(p, groups[i])} and {describe(q, groups[j])} share memory and have a "
            "float32 master each, which would lose the other's small updates: tie the parameter "
            "itself (other.weight = module.weight), or set master_weights=False in their groups"
        )
