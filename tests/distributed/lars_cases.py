"""What ranks do in tests/distributed/test_distributed_lars.py."""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from distributed.checkpoint_cases import load, state_of, train
from distributed.common import averaged_step, fingerprint, loss_of, make_model, rank, values_of
from distributed.fsdp_cases import Mesh, parts_of, shard
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from fused_warmup import LARS, linear_warmup, split_weight_decay

OPTIONS: dict[str, Any] = {"lr": 3.0, "momentum": 0.9, "trust_coefficient": 0.02}


def make_optimizer(model: nn.Module, **options: Any) -> LARS:
    groups = split_weight_decay(model, 0.01, adapt=False)
    return LARS(groups, **{**OPTIONS, "schedule": linear_warmup(5, start=0.2), **options})


def sharded(
    steps: int, mesh: Mesh, skip: int = -1, backend: str | None = None
) -> tuple[Any, list[Tensor], list[str], int]:
    """Train under FSDP2; return the collectives of a step, too."""
    model = shard(make_model(), mesh)
    opt = make_optimizer(model, backend=backend)
    counts = set()
    for step in range(steps):
        opt.zero_grad()
        loss_of(model, step, rank()).backward()
        opt.found_inf = torch.tensor(float(step == skip))
        with CommDebugMode() as mode:
            opt.step()
        counts.add(mode.get_total_counts())
    (count,) = counts
    return fingerprint(opt), values_of(opt), parts_of(opt), count


def tensor_parallel(steps: int) -> tuple[Any, list[Tensor], list[str]]:
    """A layer split by rows, one by columns and one whole on every rank, on the same data."""
    model = make_model(hidden=12)
    mesh = init_device_mesh("cpu", (2,))
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    opt = make_optimizer(model)
    for step in range(steps):
        opt.zero_grad()
        loss_of(model, step, 0).backward()
        opt.step()
    return fingerprint(opt), values_of(opt), parts_of(opt)


def replicated(steps: int) -> tuple[Any, list[Tensor]]:
    model = make_model()
    ddp = nn.parallel.DistributedDataParallel(model)
    opt = make_optimizer(model)
    for step in range(steps):
        opt.zero_grad()
        loss_of(ddp, step, rank()).backward()
        opt.step()
    return fingerprint(opt), values_of(opt)


def alone(world: int, steps: int, skip: int = -1, hidden: int = 13) -> list[Tensor]:
    """The same in one process."""
    model = make_model(hidden=hidden)
    opt = make_optimizer(model)
    for step in range(steps):
        if step != skip:
            averaged_step(model, opt, [loss_of(model, step, of) for of in range(world)])
    return values_of(opt)


def checkpointed(
    kind: str, first: int, steps: int, source: str = "", save: str = ""
) -> tuple[Any, Any, list[Tensor]]:
    """Train on with averages, all on the same data, from a checkpoint and to one.

    Returns the fingerprint of what was loaded, that of the end, and its values.
    """
    model: nn.Module = make_model()
    if kind == "fsdp":
        model = shard(model, (dist.get_world_size(),))
    opt = make_optimizer(model, ema_decay=0.75, schedule=linear_warmup(9, start=0.2))
    if source:
        load(source, kind, model, opt)
    loaded = fingerprint(opt)
    train(model, opt, first, steps)
    if save:
        dcp.save(state_of(model, opt, {}), checkpoint_id=save, no_dist=kind == "alone")
    return loaded, fingerprint(opt), values_of(opt)
