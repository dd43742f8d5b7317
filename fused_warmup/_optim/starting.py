"""Averages that no step has moved yet: they are their parameters, whenever the model is loaded.

A model is often loaded after its optimizer is built, by some trainers after a step that AMP has
skipped. So an average starts with the first *applied* step in which its parameter has a gradient.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .._step.counters import State
from .._tensors.memory import on_host
from .._tensors.shards import local_of, split_alike


class Starting:
    """The parameters whose averages no step has moved yet, as far as the host knows.

    Args:
        params: They.

    Attributes:
        is_unsure: Whether only the device knows if the last step has started averages.
    """

    def __init__(self, params: Iterable[Tensor] = ()) -> None:
        self.is_unsure = False  # no property: each step asks
        self._params = set(params)
        # Those that a step was launched for which AMP may have skipped, and the count before it.
        self._launched: set[Tensor] = set()
        self._count: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._params)

    def __contains__(self, p: object) -> bool:
        return p in self._params

    def add(self, p: Tensor) -> None:
        """Note a parameter that has just got an average."""
        self._params.add(p)

    def waiting(self) -> list[Tensor]:
        """Return the parameters without a gradient, whose averages the next step will not start."""
        return [p for p in self._params if p.grad is None]

    @torch.no_grad()
    def follow(self, state: State) -> None:
        """Let the averages be their parameters. Who reads an average calls this before."""
        for p in self._params - self._launched:
            ema = state[p].get("ema") if p in state else None
            if ema is not None and split_alike(ema, p):
                local_of(ema).copy_(local_of(p))

    def count_before(self, found_inf: Any, counters: Iterable[Tensor]) -> Tensor | None:
        """Return a copy of the count, for `note_launch`, where the next step may start averages.

        None where it starts none, or starts them for sure.
        """
        if found_inf is None or len(self.waiting()) == len(self._params):
            return None
        return next((counter.clone() for counter in counters), None)

    def note_launch(self, params: Iterable[Tensor], count: Tensor | None) -> None:
        """Note that a step was launched, which starts the averages of parameters with gradients.

        Args:
            params: The parameters that it was launched for.
            count: The `count_before` it; None: nothing has skipped it.
        """
        launched = {p for p in params if p in self._params and p.grad is not None}
        if count is None:
            self._params -= launched
        else:
            self._launched |= launched
            self._count = count if self._count is None else self._count
            self.is_unsure = True

    def settle(self, count: Tensor) -> bool:
        """Find out whether the launched step was applied, and say so. Waits for the device.

        Args:
            count: The present count.
        """
        applied = self._count is not None and bool(on_host(self._count.to(count) != count, True))
        if applied:
            self._params -= self._launched
        self._launched, self._count, self.is_unsure = set(), None, False
        return applied
