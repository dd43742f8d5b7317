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
        self._contiguous = [p.is_contiguous() for p in params]
        self._strides = [_strides(p) for p in params]
        self._select(list(range(len(params))))
        self._found: Found | None = None

    def _select(self, active: list[int]) -> None:
        params, buffers = self._all
        self._active = active
        self.params = [params[i] for i in active]
        self._with_buffer = [
            (b, self.buffer_at[i]) for i in active if (b := buffers[i]) is not None
        ]
        self._expected_sizes = [self.sizes[i] for i in active]
        self._expected_contiguous = [self._contiguous[i] for i in active]
        self._expected_dtypes = [self.dtypes[i] for i in active]
        self._permuted = [k for k, i in enumerate(active) if not self._contiguous[i]]
        self._single = [k for k, i in enumerate(active) if self.sizes[i] == 1]

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
        params = self.params
        found = Found(active, [p.data_ptr() for p in params], grad_at, [g.dtype for g in present])
        if [p.dtype for p in params] != self._expected_dtypes:
            return None
        if any(buffer.data_ptr() != at for buffer, at in self._with_buffer):
            return None
        for tensors in (params, present):
            # One flat index serves tensors that are contiguous or permuted alike.
            if [x.numel() for x in tensors] != self._expected_sizes:
                return None
            if [x.is_contiguous() for x in tensors] != self._expected_contiguous:
                return None
            if any(_strides(tensors[k]) != self._strides[active[k]] for k in self._permuted):
                return None
        # A dense tensor that is to be read with the opposite sign has one element: it is a view of
        # a complex number's imaginary part.
        if any(present[k].is_neg() for k in self._single):
            return None
        if found == self._found:
            return self._found
        if not self._grad_dtypes.issuperset(found.grad_dtypes):
            return None
        if any(x.device not in self._devices for x in (*params, *present)):
            return None
        self._found = found
        return found


def _strides(tensor: Tensor) -> list[int]:
    """Return the strides that mean something: torch keeps any number for a size of 1."""
    return [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]
