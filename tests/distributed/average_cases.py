"""What ranks do in tests/distributed/test_distributed_averages.py, all of them on the same data."""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from distributed.checkpoint_cases import load, state_of
from distributed.common import batch, fingerprint, make_model, make_optimizer, values_of
from distributed.fsdp_cases import shard
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel as DDP

from fused_warmup import SGD, linear_warmup

AVERAGING: dict[str, Any] = {"ema_decay": 0.75, "ema_schedule": linear_warmup(4), "ema_every": 2}


def session(
    kind: str, dtype: torch.dtype, first: int, steps: int, source: str, save: str
) -> tuple[Any, list[Tensor], float]:
    """Train on, from a checkpoint and to one, and evaluate the averages on the way."""
    model: nn.Module = make_model().to(dtype)
    if kind != "alone":
        world = (dist.get_world_size(),)
        model = DDP(model) if kind == "ddp" else shard(model, world)
    opt = make_optimizer(model, **AVERAGING, master_weights=True)
    if source:
        load(source, kind, model, opt)
    loss = 0.0
    for step in range(first, first + steps):
        opt.zero_grad()
        loss_on(model, step, dtype).backward()
        opt.step()
        with torch.no_grad(), opt.swap_averaged(model):
            loss = float(loss_on(model, step, dtype))
    if save:
        dcp.save(state_of(model, opt, {}), checkpoint_id=save, no_dist=kind == "alone")
    kinds = {name: opt.state[p][name].dtype for p in opt.state for name in wide(opt, p)}
    assert set(kinds.values()) == {torch.float32}
    return fingerprint(opt), values_of(opt), loss


def loss_on(model: nn.Module, step: int, dtype: torch.dtype) -> Tensor:
    x, y = batch(step, 0)
    return mse_loss(model(x.to(dtype)), y.to(dtype))


def wide(opt: SGD, p: Any) -> list[str]:
    return [name for name in ("ema", "master_param", "momentum_buffer") if name in opt.state[p]]
