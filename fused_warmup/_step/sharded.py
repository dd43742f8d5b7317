"""DTensor parameters (FSDP2, tensor parallelism): kernels update each rank's own shard, in place.

State stays DTensor, so that torch.distributed.checkpoint can reshard it; a kernel is given the
tensors inside. An update is element by element, so nothing needs to be communicated where a
parameter, its gradient and its momentum are split alike. Where they are not, torch's own DTensor
operations (the reference backend) bring them together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._tensors.shards import local_of, split_alike


class ShardedPlan:
    """A backend's plan for the local tensors of DTensors, used as the backend's own is.

    Args:
        make: Builds the backend's plan.
        params: DTensors, plain tensors among them.
        momentum_buffers: One a parameter or None, each split as its parameter is.
        first_steps: First-step marks or None, plain tensors.
        emas: Averages, likewise; none at all where no parameter has one.
        masters: Master copies, likewise.
        rest: What else ``make`` takes.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        params: Sequence[Tensor],
        momentum_buffers: Sequence[Tensor | None],
        first_steps: Sequence[Tensor | None],
        emas: Sequence[Tensor | None] = (),
        masters: Sequence[Tensor | None] = (),
        **rest: Any,
    ) -> None:
        self._locals = [local_of(p) for p in params]
        state = (*momentum_buffers, *emas, *masters)
        self._state = [(each, local_of(each)) for each in state if each is not None]
        self._params = params
        # Other ranks mark a parameter's first step and a checkpoint may take any rank's mark, so a
        # rank without elements of it updates one of zero in their place: the kernel knows when.
        self._stands_in = [
            mark is not None and local.numel() == 0
            for local, mark in zip(self._locals, first_steps, strict=True)
        ]
        self._zeros: dict[int, Tensor] = {}  # gradients of those, each in memory of its own
        self._plan = make(
            params=self._with_stand_ins(self._locals),
            momentum_buffers=self._with_stand_ins(_locals_of(momentum_buffers)),
            first_steps=first_steps,
            emas=self._with_stand_ins(_locals_of(emas)),
            masters=self._with_stand_ins(_locals_of(masters)),
            **rest,
        )
        self.active: list[Tensor] = []

    def _with_stand_ins(self, tensors: Sequence[Any]) -> list[Any]:
        return [
            tensor.new_zeros(1) if stands_in and tensor is not None else tensor
            for tensor, stands_in in zip(tensors, self._stands_in, strict=bool(tensors))
        ]

    def _zero(self, i: int, like: Tensor) -> Tensor:
        if i not in self._zeros or self._zeros[i].dtype != like.dtype:
            self._zeros[i] = like.new_zeros(1)
        return self._zeros[i]

    def prepare(
        self,
        groups: Sequence[Mapping[str, Any]],
        grads: Sequence[Tensor | None] | None,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        write_grads: bool,
    ) -> bool:
        """Read what the step needs and touch nothing. False: it needs another form or plan."""
        if grads is None:
            grads = [p.grad for p in self._params]
        shards: list[Tensor | None] = []
        for p, local, grad in zip(self._params, self._locals, grads, strict=True):
            # FSDP2 puts another local tensor into a parameter when a state dict is assigned.
            if local_of(p) is not local or (grad is not None and not split_alike(grad, p)):
                return False
            shard = None if grad is None else local_of(grad)
            if shard is not None and self._stands_in[len(shards)]:
                shard = self._zero(len(shards), shard)
            shards.append(shard)
        if any(local_of(each) is not local for each, local in self._state):
            return False
        if not self._plan.prepare(groups, shards, grad_scale, found_inf, write_grads):
            return False
        self.active = [
            p for p, shard in zip(self._params, shards, strict=True) if shard is not None
        ]
        written = write_grads and grad_scale is not None
        self._written = [grad for grad in grads if grad is not None] if written else []
        return True

    def measure(self) -> None:
        """Leave the sums of squares of each shard; see `Norms`."""
        self._plan.measure()

    def launch(self, advance: bool) -> bool:
        """Apply the step. False where ``found_inf`` is known to have skipped it."""
        # The DTensors around what the kernel writes have version counters of their own.
        torch.autograd.graph.increment_version([*self.active, *self._written])
        self._written = []  # gradients must not outlive zero_grad()
        return self._plan.launch(advance)  # type: ignore[no-any-return]

    @property
    def n_captured(self) -> int:
        """Launches that CUDA graphs hold."""
        return getattr(self._plan, "n_captured", 0)

    def update_captured(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Give the groups' present options to launches that CUDA graphs hold."""
        self._plan.update_captured(groups)


def _locals_of(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if tensor is None else local_of(tensor) for tensor in tensors]
