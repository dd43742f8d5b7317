"""The update inside the backward pass: a gradient lives only until its parameter is updated.

An opt-in that saves memory: at no time are there gradients of the whole model. Each parameter is
updated as soon as its gradient is final, at the rate of the step count that all share; the
``optimizer.step()`` of the usual loop then only counts, and updates what backward left over.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .._optim.stepping import FusedOptimizer
from .._step.plan import Plan
from .._tensors.shards import is_sharded


class StepInBackward:
    """Let an optimizer update parameters inside ``backward()``.

    The loop stays as it is: ``zero_grad``, ``backward``, ``step``. Parameters move during
    ``backward``; ``step`` advances the count by one. Results are those of the usual order, bit for
    bit.

    - Accumulation: ``with handle.accumulate():`` around every backward of a step but the last.
    - DDP: give the wrapped model, made with ``gradient_as_bucket_view=True``. A bucket is updated
      when its all-reduce is done, while the rest still computes; DDP's buckets stay allocated, so
      that this saves time and no memory. `accumulate` and ``no_sync`` go together.
    - What needs all gradients before the first update cannot work: `torch.amp.GradScaler` (whether
      to skip is known when the last gradient is), clipping by the norm of all gradients,
      ``create_graph``. With a scaler, ``scaler.step`` raises, at its first call. bfloat16 needs no
      scaler.

    Args:
        optimizer: The optimizer; its parameters must be plain tensors.
        ddp: The ``DistributedDataParallel`` around them; None: one process.
        local: Whether the gradients of this process alone are wanted in spite of a process group.

    Raises:
        TypeError: A parameter is a DTensor: FSDP2 sets gradients itself, when backward is over.
        ValueError: A process group without ``ddp``, or a DDP that does not fit.
        RuntimeError: The optimizer steps in backward already.

    Example:
        >>> from fused_warmup import SGD, linear_warmup
        >>> model = torch.nn.Linear(3, 1)
        >>> opt = SGD(model.parameters(), lr=0.1, momentum=0.9, schedule=linear_warmup(10))
        >>> handle = StepInBackward(opt)
        >>> model(torch.ones(2, 3)).sum().backward()  # parameters have moved, gradients are gone
        >>> model.weight.grad is None
        True
        >>> opt.step()
        >>> opt.steps_applied
        1
    """

    def __init__(self, optimizer: FusedOptimizer, ddp: Any = None, *, local: bool = False) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        if optimizer._in_backward is not None:
            raise RuntimeError(
                "this optimizer steps in backward already: call remove() on the first handle"
            )
        if any(map(is_sharded, params)):
            raise TypeError(
                "a parameter is a DTensor, whose gradient FSDP2 sets when backward is over: step "
                "as usual, FSDP2 frees the unsharded gradients by itself"
            )
        _check_ddp(ddp, local)
        self._optimizer = optimizer
        self._accumulating = False
        self._updated: dict[Tensor, None] = {}
        self._slices: dict[tuple[int, ...], _Slice] = {}
        self._lock = threading.Lock()  # DDP's buckets come from gloo's threads
        self._hooks: list[Any] = []
        if ddp is not None:
            ddp.register_comm_hook(ddp.process_group, self._reduce_bucket)
        else:
            for p in params:
                if p.requires_grad:
                    self._hooks.append(
                        p.register_post_accumulate_grad_hook(self._gradient_is_final)
                    )
        optimizer._in_backward = self

    def remove(self) -> None:
        """Go back to updates in ``step()``. Not between a backward and its step."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for plan in self.plans():
            self._optimizer._keep_if_captured(plan)
        self._slices.clear()
        self._optimizer._in_backward = None

    def plans(self) -> list[Plan]:
        """Return the plans of the updates."""
        return [each.plan for each in self._slices.values() if each.plan is not None]

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Let gradients of the backward passes inside add up, for a later one to apply."""
        before, self._accumulating = self._accumulating, True
        try:
            yield
        finally:
            self._accumulating = before

    def finish(self, grad_scale: Any, found_inf: Any) -> bool:
        """Count the step; what ``SGD.step`` calls first. False: gradients are left to update.

        Raises:
            RuntimeError: A `torch.amp.GradScaler` asks to unscale or skip.
        """
        if grad_scale is not None or found_inf is not None:
            raise RuntimeError(
                "GradScaler scales gradients and may skip the step, but StepInBackward has applied "
                "them in backward already: train in bfloat16 without a scaler, or call remove() "
                "and step as usual"
            )
        updated, self._updated = self._updated, {}
        for p in updated:
            p.grad = None
        groups = self._optimizer.param_groups
        if not updated or any(p.grad is not None for group in groups for p in group["params"]):
            return False
        self._optimizer._counters.advance()
        return True

    def _gradient_is_final(self, p: Tensor) -> None:
        if not self._accumulating:
            self._update([p])
            p.grad = None

    def _reduce_bucket(
        self,
        group: dist.ProcessGroup,
        bucket: dist.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[Tensor]:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        reduced = allreduce_hook(group, bucket)
        if self._optimizer._in_backward is not self:  # removed; DDP keeps its hook for good
            return reduced
        params = bucket.parameters()

        def update(future: Any) -> Tensor:
            value = future.value()
            if not self._accumulating:
                self._update(params)
            whole: Tensor = value[0] if isinstance(value, list) else value
            return whole

        return reduced.then(update)

    @torch.no_grad()
    def _update(self, params: Sequence[Tensor]) -> None:
        self._optimizer._refuse_swapped()
        with self._lock:
            for p in params:
                if p in self._updated:
                    raise RuntimeError(
                        f"a parameter of shape {tuple(p.shape)} got a second gradient before "
                        "step(): call step() after each backward, or put all but the last one "
                        "under accumulate()"
                    )
            key = tuple(map(id, params))
            if key not in self._slices:
                self._slices[key] = _Slice(self._optimizer, params)
            self._slices[key].update()
            self._updated.update(dict.fromkeys(params))


class _Slice:
    """Some of an optimizer's parameters, updated by a plan of their own that does not count."""

    def __init__(self, optimizer: FusedOptimizer, params: Sequence[Tensor]) -> None:
        self._optimizer, self._params = optimizer, params
        self._members: list[list[Tensor]] = []
        self._groups: list[dict[str, Any]] = []
        self._state: dict[Any, dict[str, Any]] = {}
        self.plan: Plan | None = None

    def update(self) -> None:
        self._look()
        step = (self._state, self._groups, None, None, False)
        if self.plan is not None and (self.plan.run(*step) or self.plan.run_carefully(*step)):
            return
        optimizer = self._optimizer
        optimizer._keep_if_captured(self.plan)
        optimizer._complete_state()
        self._look()
        self.plan = Plan(
            self._state,
            self._groups,
            optimizer._counters,
            optimizer._lr,
            optimizer.backend,
            counts=False,
            measures=optimizer._measures,
        )
        if not self.plan.run_carefully(*step):
            raise RuntimeError("a plan made for a parameter does not fit it: please report this")
        optimizer._starting.note_launch(self._params, None)

    def _look(self) -> None:
        """Bring the groups' present options and the parameters' present state."""
        groups = self._optimizer.param_groups
        if len(self._groups) != len(groups):
            own = set(map(id, self._params))
            self._members = [[p for p in group["params"] if id(p) in own] for group in groups]
            self._groups = [{} for _ in groups]
        for view, group, members in zip(self._groups, groups, self._members, strict=True):
            view.update(group)
            view["params"] = members
        for p in self._params:
            if p in self._optimizer.state:
                self._state[p] = self._optimizer.state[p]


def _check_ddp(ddp: Any, local: bool) -> None:
    if ddp is None:
        together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if together and not local:
            raise ValueError(
                f"there are {dist.get_world_size()} processes and no ddp, so that each would apply "
                "its own gradients: pass the DistributedDataParallel model, or local=True"
            )
        return
    if not ddp.gradient_as_bucket_view:
        raise ValueError(
            "ddp has gradient_as_bucket_view=False, so a gradient is complete only when backward "
            "is over: build it with gradient_as_bucket_view=True"
        )
    if ddp.find_unused_parameters or ddp.static_graph:
        raise ValueError(
            "ddp has find_unused_parameters or static_graph set, and a bucket does not tell which "
            "of its parameters were used: build it without, or step as usual"
        )
