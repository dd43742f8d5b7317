"""What ranks do in tests/distributed/test_distributed_ddp.py."""

from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from distributed.common import (
    digest,
    fingerprint,
    loss_of,
    make_model,
    make_optimizer,
    rank,
    values_of,
)
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel as DDP

from fused_warmup.distributed import Joined


def train(steps: int, ddp_options: dict[str, Any], **options: Any) -> tuple[Any, list[Tensor]]:
    model = make_model()
    ddp = DDP(model, **ddp_options)
    opt = make_optimizer(model, **options)
    for step in range(steps):
        opt.zero_grad()
        loss_of(ddp, step, rank()).backward()
        opt.step()
    return fingerprint(opt), values_of(opt)


def accumulate(view: bool, steps: int, micro: int) -> tuple[Any, list[Tensor]]:
    model = make_model()
    ddp = DDP(model, gradient_as_bucket_view=view)
    opt = make_optimizer(model)
    for step in range(steps):
        opt.zero_grad()
        for i in range(micro):
            with ddp.no_sync() if i + 1 < micro else nullcontext():
                loss_of(ddp, step * micro + i, rank()).backward()
        opt.step()
    return fingerprint(opt), values_of(opt)


class Branches(nn.Module):
    """A trunk, a layer that some steps and ranks leave out, one never used, one frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.trunk, self.sometimes = nn.Linear(9, 1), nn.Linear(9, 1)
        self.never, self.frozen = nn.Linear(9, 1), nn.Linear(9, 9).requires_grad_(False)

    def forward(self, x: Tensor, branch: bool) -> Tensor:
        x = self.frozen(x)
        return self.trunk(x) + self.sometimes(x) if branch else self.trunk(x)


def branches(view: bool, steps: int) -> dict[str, Any]:
    model = Branches()
    ddp = DDP(model, find_unused_parameters=True, gradient_as_bucket_view=view)
    opt = make_optimizer(model)
    before = digest([*model.never.parameters(), *model.frozen.parameters()])
    moved = []
    for step in range(steps):
        opt.zero_grad()
        x = torch.randn(4, 9, generator=torch.Generator().manual_seed(10 * step + rank()))
        weight = model.sometimes.weight.clone()
        # Nobody takes the branch at first; then one rank alone; then all.
        ddp(x, branch=step >= 4 or (step >= 2 and rank() == 1)).square().mean().backward()
        opt.step()
        moved.append(not torch.equal(weight, model.sometimes.weight))
    return {
        "fingerprint": fingerprint(opt),
        "moved": moved,
        "untouched": before == digest([*model.never.parameters(), *model.frozen.parameters()]),
        "mark": int(opt.state[model.sometimes.weight]["first_step"]),
    }


def join(counts: list[int], share: bool) -> tuple[Any, list[int]]:
    """Rank i has ``counts[i]`` batches an epoch; two epochs."""
    model = make_model()
    ddp = DDP(model)
    opt = make_optimizer(model)
    seen = []
    for epoch in range(2):
        with Join([ddp, Joined(opt)] if share else [ddp]):
            for step in range(counts[rank()]):
                opt.zero_grad()
                loss_of(ddp, 100 * epoch + step, rank()).backward()
                opt.step()
        seen.append(opt.steps_applied)
    return fingerprint(opt), seen


def communication() -> tuple[int, int]:
    """Collectives that a backward issues, and a step."""
    model = make_model()
    ddp = DDP(model)
    opt = make_optimizer(model)
    with CommDebugMode() as backward:
        loss_of(ddp, 0, rank()).backward()
        dist.barrier()
    with CommDebugMode() as step:
        for _ in range(3):
            opt.step()
    return backward.get_total_counts(), step.get_total_counts()
