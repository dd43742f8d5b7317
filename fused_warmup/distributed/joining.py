"""Uneven inputs: ranks that have run out of data end an epoch with the others' optimizer state.

Under ``torch.distributed.algorithms.Join`` a rank without data keeps DDP's collectives company, but
does not step. DDP gives it the final parameters when all have joined; `Joined` gives it the
momentum and the step count too.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms.join import Joinable, JoinHook

from .._optim.stepping import FusedOptimizer
from .._tensors.shards import local_of


class Joined(Joinable):
    """An optimizer's part in ``Join``: one broadcast when the last rank has joined, none before.

    Args:
        optimizer: The optimizer of a DDP model.
        process_group: The model's; None: all ranks.

    Example:
        >>> from torch.distributed.algorithms.join import Join
        >>> def epoch(ddp, opt, batches):
        ...     with Join([ddp, Joined(opt)]):  # DDP first: it tells who has joined
        ...         for images, labels in batches:
        ...             opt.zero_grad()
        ...             torch.nn.functional.cross_entropy(ddp(images), labels).backward()
        ...             opt.step()
    """

    def __init__(
        self, optimizer: FusedOptimizer, process_group: dist.ProcessGroup | None = None
    ) -> None:
        super().__init__()
        self._optimizer = optimizer
        self._group = process_group

    def join_hook(self, **kwargs: Any) -> JoinHook:
        """Return the hook that `Join` calls."""
        return _Hook(self)

    @property
    def join_device(self) -> torch.device:
        """The device of the first parameter."""
        device: torch.device = self._optimizer.param_groups[0]["params"][0].device
        return device

    @property
    def join_process_group(self) -> Any:
        """The process group."""
        return self._group if self._group is not None else dist.group.WORLD

    @torch.no_grad()
    def share_state(self, is_last_joiner: bool) -> None:
        """Take over the state of a rank that stepped to the end. Every rank must call it."""
        group = self.join_process_group
        # Several ranks may have stepped to the end: the highest of them speaks.
        mine = dist.get_rank(group) if is_last_joiner else -1
        speaker = torch.tensor(mine, device=self.join_device)
        dist.all_reduce(speaker, op=dist.ReduceOp.MAX, group=group)
        source = dist.get_global_rank(group, int(speaker))
        optimizer = self._optimizer
        steps = torch.tensor(optimizer.steps_applied, device=self.join_device)
        dist.broadcast(steps, source, group=group)
        optimizer.steps_applied = int(steps)
        for param_group in optimizer.param_groups:
            for p in param_group["params"]:
                for name in ("momentum_buffer", "first_step"):
                    value = optimizer.state.get(p, {}).get(name)
                    if value is not None:
                        dist.broadcast(local_of(value), source, group=group)


class _Hook(JoinHook):
    def __init__(self, joined: Joined) -> None:
        self._joined = joined

    def post_hook(self, is_last_joiner: bool) -> None:
        self._joined.share_state(is_last_joiner)
