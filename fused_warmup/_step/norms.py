"""LARS's norms: where a step's first launch leaves them, and what other ranks add to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .._backend.native import load_native
from .._tensors.shards import is_flat_shard, is_sharded, local_of
from .counters import home, making_state


@dataclass(frozen=True, slots=True)
class PartNorms:
    """What one part of a plan measures.

    Attributes:
        squares: Sums of squares, float64: those of a parameter and of its gradient in a row.
        partials: Room for the sums of chunks, two in a row.
        tickets: Counts of chunks that are through, 0 between launches; as long as ``squares``.
        rows: The row of each of the part's parameters.
    """

    squares: Tensor
    partials: Tensor
    tickets: Tensor
    rows: list[int]


class Norms:
    """The norms of all parameters of a plan, a row for each.

    Args:
        params: The parameters; DTensors are measured shard by shard.

    Raises:
        TypeError: One is a shard of FSDP1's, which cuts through layers.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        if any(map(is_flat_shard, params)):
            raise TypeError(
                "a parameter is a flat shard of FSDP1, which knows no layers, and LARS needs the "
                "norm of each: use fully_shard (FSDP2)"
            )
        self._n = len(params)
        self._squares: dict[torch.device, Tensor] = {}
        # Which rows are to be added up over one dimension of a mesh.
        self._split: dict[tuple[Any, int], list[int]] = {}
        for row, p in enumerate(params):
            if is_sharded(p):
                for dim, placement in enumerate(p.placements):  # type: ignore[attr-defined]
                    if placement.is_shard():
                        self._split.setdefault((p.device_mesh, dim), []).append(row)  # type: ignore[attr-defined]

    def of_part(self, params: Sequence[Tensor], rows: list[int]) -> PartNorms:
        """Return what the parameters of one device are measured into."""
        device = home(params[0])
        native, _ = load_native()
        sizes = [max(local_of(p).numel(), 1) for p in params]
        slots = native.norm_slots(sizes) if native else 0
        with making_state():
            if device not in self._squares:
                self._squares[device] = torch.zeros(self._n, 2, dtype=torch.float64, device=device)
            partials = torch.empty(slots, 2, dtype=torch.float64, device=device)
            tickets = torch.zeros(self._n, dtype=torch.int64, device=device)
        return PartNorms(self._squares[device], partials, tickets, rows)

    @property
    def are_split(self) -> bool:
        """Whether other ranks hold elements of the same tensors."""
        return bool(self._split)

    @torch.no_grad()
    def clear(self) -> None:
        """Set all sums to 0: no launch visits a shard without elements."""
        for squares in self._squares.values():
            squares.zero_()

    @torch.no_grad()
    def add_other_ranks(self) -> None:
        """Add up the sums of all shards, for all tensors at once; every rank gets the same bits.

        One small all-gather for each dimension of a mesh that tensors are split over. The sums are
        added by halves of the ranks, in an order that depends on their number alone: an all-reduce
        promises none.
        """
        for (mesh, dim), rows in self._split.items():
            (squares,) = self._squares.values()  # DTensors of one optimizer share a device
            index = torch.tensor(rows, device=squares.device)
            own = squares[index]
            group = mesh.get_group(dim)
            ranks = [own.new_zeros(own.shape) for _ in range(dist.get_world_size(group))]
            dist.all_gather(ranks, own, group=group)
            squares[index] = _by_halves(torch.stack(ranks))


def _by_halves(values: Tensor) -> Tensor:
    """Add up along the first dimension: the second half to the first, until one is left."""
    while len(values) > 1:
        half = (len(values) + 1) // 2
        rest = values[half:]
        values = torch.cat((values[: len(rest)] + rest, values[len(rest) : half]))
    return values[0]
