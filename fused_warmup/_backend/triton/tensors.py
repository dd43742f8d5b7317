"""Where a plan's tensors lie now, and whether the kernel can walk them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

PLAIN = Tensor.__torch_dispatch__


class Found(NamedTuple):
    """What may change from one step to the next; equal where nothing did."""

    active: list[int]  # parameters that have a gradient
    param_at: list[int]
    grad_at: list[int]
    grad_dtypes: list[torch.dtype]


class Layouts:
    """How some tensors lie in memory, and whether others are walked by the same flat indices.

    Args:
        rows: Of each its elements, whether it is contiguous, and its strides.
    """

    def __init__(self, rows: Sequence[tuple[int, bool, list[int]]]) -> None:
        self._sizes = [size for size, _, _ in rows]
        self._contiguous = [contiguous for _, contiguous, _ in rows]
        self._permuted = [(k, strides) for k, (_, flat, strides) in enumerate(rows) if not flat]

    def serve(self, tensors: Sequence[Tensor]) -> bool:
        """Tell whether each tensor lies as its row says, and none is to be read as its negative."""
        return (
            [x.numel() for x in tensors] == self._sizes
            and [x.is_contiguous() for x in tensors] == self._contiguous
            and all(_strides(tensors[k]) == strides for k, strides in self._permuted)
            and not any(x.is_neg() for x in tensors)
        )


class Tensors:
    """The parameters of a plan and their momentum buffers.

    Every step looks at all of them, in lists of plain values, which Python makes and compares
    faster than anything else.

    Args:
        params: Dense parameters.
        momentum_buffers: One a parameter, or None; laid out like the parameter.
        dtypes: What gradients may be.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        momentum_buffers: Sequence[Tensor | None],
        dtypes: Sequence[torch.dtype],
    ) -> None:
        self.sizes = [p.numel() for p in params]
        self.dtypes = [p.dtype for p in params]
        self.buffer_at = [0 if b is None else b.data_ptr() for b in momentum_buffers]
        self._all = params, momentum_buffers
        self._devices = {p.device for p in params}
        self._grad_dtypes = frozenset(dtypes)
        self._rows = [(p.numel(), p.is_contiguous(), _strides(p)) for p in params]
        self._select(list(range(len(params))))
        self._found: Found | None = None

    def _select(self, active: list[int]) -> None:
        params, buffers = self._all
        self._active = active
        self.params = [params[i] for i in active]
        self._layouts = Layouts([self._rows[i] for i in active])
        self._expected_dtypes = [self.dtypes[i] for i in active]
        filled = [(i, b) for i in active if (b := buffers[i]) is not None]
        self._buffers = [b for _, b in filled]
        self._buffer_layouts = Layouts([self._rows[i] for i, _ in filled])
        self._expected_of_buffers = [(self.buffer_at[i], self.dtypes[i]) for i, _ in filled]

    def look(self, grads: Sequence[Tensor | None]) -> Found | None:
        """Return where everything is; the same object as long as nothing moved.

        Returns:
            None where a tensor is not for the kernel, or no longer what the plan was made for.
        """
        active = [i for i, grad in enumerate(grads) if grad is not None]
        if active != self._active:
            self._select(active)
        present = [grad for grad in grads if grad is not None]
        kinds: set[Any] = set(map(type, present))
        if any(kind.__torch_dispatch__ is not PLAIN for kind in kinds):
            return None
        try:
            grad_at = [grad.data_ptr() for grad in present]
        except RuntimeError:  # sparse, say
            return None
        params, buffers = self.params, self._buffers
        found = Found(active, [p.data_ptr() for p in params], grad_at, [g.dtype for g in present])
        if [p.dtype for p in params] != self._expected_dtypes:
            return None
        if [(b.data_ptr(), b.dtype) for b in buffers] != self._expected_of_buffers:
            return None
        if not (self._layouts.serve(params) and self._layouts.serve(present)):
            return None
        if not self._buffer_layouts.serve(buffers):
            return None
        if found == self._found:
            return self._found
        if not self._grad_dtypes.issuperset(found.grad_dtypes):
            return None
        if any(x.device not in self._devices for x in (*params, *present)):
            return None
        # Freed memory, as FSDP1 leaves behind, and torch's zeros without any.
        if any(x.data_ptr() == 0 and x.numel() > 0 for x in (*params, *present, *buffers)):
            return None
        self._found = found
        return found


def _strides(tensor: Tensor) -> list[int]:
    """Return the strides that mean something: torch keeps any number for a size of 1."""
    return [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]
