"""What ranks do in tests/distributed/test_distributed_attach.py, all of them on the same data."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from distributed.common import loss_of, make_model, whole
from distributed.fsdp_cases import shard
from torch import Tensor
from torch.optim import SGD, AdamW

from fused_warmup import attach, linear_warmup

SCHEDULE = linear_warmup(5, start=0.2)
MAKERS = {
    "fused": partial(AdamW, lr=0.05, fused=True),
    "tensor": lambda params: AdamW(params, lr=torch.tensor(0.05), foreach=False),
    "tensor, foreach": lambda params: SGD(params, lr=torch.tensor(0.05), momentum=0.9),
    "numbers": partial(AdamW, lr=0.05),
}


def trained(kind: str, steps: int, split: bool) -> tuple[list[Tensor], int, list[float], Any]:
    """Values, the count, the last rates, and what kind of rate the group holds."""
    model = make_model()
    if split:
        model = shard(model, (dist.get_world_size(),))
    optimizer = MAKERS[kind](model.parameters())
    handle = attach(optimizer, SCHEDULE)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, step, 0).backward()
        optimizer.step()
    values = [whole(p.detach()).clone() for p in model.parameters()]
    (group,) = optimizer.param_groups
    return values, handle.steps_applied, handle.get_last_lr(), type(group["lr"]).__name__


def sharded(kind: str, steps: int) -> tuple[list[Tensor], int, list[float], Any]:
    return trained(kind, steps, split=True)
