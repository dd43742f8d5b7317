"""What ranks do in tests/distributed/test_distributed_checkpoint.py.

Every rank sees the same batches, so that runs at every world size have the bits of one process: a
sum of two or four equal numbers is exact, and so is its half or quarter.
"""

import copy
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from distributed.common import (
    OPTIONS,
    fingerprint,
    loss_of,
    make_model,
    make_optimizer,
    rank,
    schedule,
    values_of,
)
from distributed.fsdp_cases import shard
from torch import Tensor, nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.parallel import DistributedDataParallel as DDP

from fused_warmup import SGD

Options = dict[str, Any]


def wrapped(kind: str) -> nn.Module:
    model = make_model()
    if kind == "alone":
        return model
    return DDP(model) if kind == "ddp" else shard(model, (dist.get_world_size(),))


def train(model: nn.Module, opt: Any, first: int, steps: int) -> None:
    for step in range(first, first + steps):
        opt.zero_grad()
        loss_of(model, step, 0).backward()
        opt.step()


def state_of(model: nn.Module, opt: Any, options: Options) -> dict[str, Any]:
    how = StateDictOptions(**options)
    optim = get_optimizer_state_dict(model, opt, options=how)
    return {"model": get_model_state_dict(model, options=how), "optim": optim}


def save(folder: str, kind: str, steps: int, options: Options) -> tuple[Any, list[Tensor]]:
    model = wrapped(kind)
    opt = make_optimizer(model)
    train(model, opt, 0, steps)
    before = fingerprint(opt)
    state = state_of(model, opt, options)
    assert fingerprint(opt) == before  # asking for the state changes nothing
    dcp.save(state, checkpoint_id=folder, no_dist=kind == "alone")
    return before, values_of(opt)


def load(folder: str, kind: str, model: nn.Module, opt: Any) -> None:
    """Load a checkpoint, the model last, over weights that are none of its own."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)  # so that what is not loaded shows
    state = state_of(model, opt, {})
    dcp.load(state, checkpoint_id=folder, no_dist=kind == "alone")
    set_optimizer_state_dict(model, opt, state["optim"], options=StateDictOptions())
    set_model_state_dict(model, state["model"], options=StateDictOptions())


def resume(
    folder: str, kind: str, first: int, steps: int, options: Options
) -> tuple[Any, Any, list[Tensor]]:
    model = wrapped(kind)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)  # so that what is not loaded shows
    opt = make_optimizer(model, lr=123.0, schedule=None)  # both come with the checkpoint
    state = state_of(model, opt, options)
    dcp.load(state, checkpoint_id=folder, no_dist=kind == "alone")
    how = StateDictOptions(**options)
    set_model_state_dict(model, state["model"], options=how)
    set_optimizer_state_dict(model, opt, state["optim"], options=how)
    loaded = fingerprint(opt)
    train(model, opt, first, steps)
    return loaded, fingerprint(opt), values_of(opt)


def full_state(path: str, first: int, steps: int) -> tuple[Any, Any]:
    """One file of whole tensors, from rank 0 and back through it; between two world sizes too."""
    options = {"full_state_dict": True, "cpu_offload": True}
    model = wrapped("fsdp")
    opt = make_optimizer(model)
    train(model, opt, 0, first)
    state = state_of(model, opt, options)
    if rank() == 0:
        torch.save(state, path)
    train(model, opt, first, steps)

    dist.barrier()
    again = wrapped("fsdp")
    other = make_optimizer(again, lr=123.0, schedule=None)
    whole = torch.load(path, weights_only=True, mmap=True) if rank() == 0 else {}
    how = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(again, whole.get("model", {}), options=how)
    set_optimizer_state_dict(again, other, whole.get("optim", {}), options=how)
    train(again, other, first, steps)
    return fingerprint(opt), fingerprint(other)


def plain_load(path: str, first: int, steps: int) -> tuple[Any, Any]:
    """Optimizer.load_state_dict with whole tensors: each rank takes its own part of them."""
    alone = make_model()
    single = make_optimizer(alone)
    train(alone, single, 0, first)
    saved = copy.deepcopy({"model": alone.state_dict(), "optim": single.state_dict()})
    train(alone, single, first, steps)

    model = make_model()
    model.load_state_dict(saved["model"])
    model = shard(model, (dist.get_world_size(),))
    opt = make_optimizer(model)
    opt.load_state_dict(saved["optim"])
    train(model, opt, first, steps)
    return fingerprint(single), fingerprint(opt)


def dry_run(tensor_lr: bool) -> tuple[Any, Any, list[bool]]:
    """DCP asks a fresh optimizer for its state, then an old one without gradients."""
    model = wrapped("fsdp")
    opt = make_optimizer(model, lr=torch.tensor(0.05) if tensor_lr else 0.05)
    before, kept = fingerprint(opt), []
    for _ in range(2):
        lr = opt.param_groups[0]["lr"]
        objects = [opt.state[p][k] for p in model.parameters() for k in opt.state[p]]
        get_optimizer_state_dict(model, opt)
        after = [opt.state[p][k] for p in model.parameters() for k in opt.state[p]]
        kept += [all(map(lambda a, b: a is b, objects, after)), opt.param_groups[0]["lr"] is lr]
        fresh = fingerprint(opt)
        assert fresh[:2] == before[:2], (fresh, before)
        train(model, opt, opt.steps_applied, 2)
        opt.zero_grad()
        before = fingerprint(opt)
    return before, fresh, kept


def from_torch(folder: str, first: int, steps: int) -> tuple[Any, Any]:
    """A checkpoint of torch.optim.SGD under FSDP2, taken over at an explicit step."""
    options = {**OPTIONS, "dampening": 0.0}
    model = wrapped("fsdp")
    theirs = torch.optim.SGD(model.parameters(), **options)
    scheduler = torch.optim.lr_scheduler.LambdaLR(theirs, schedule())
    for step in range(first):
        theirs.zero_grad()
        loss_of(model, step, 0).backward()
        theirs.step()
        scheduler.step()
    dcp.save(state_of(model, theirs, {}), checkpoint_id=folder)

    again = wrapped("fsdp")
    opt = make_optimizer(again, dampening=0.0)
    state = state_of(again, opt, {})
    partly = DefaultLoadPlanner(allow_partial_load=True)  # it has no step counts, no schedule
    dcp.load(state, checkpoint_id=folder, planner=partly)
    set_model_state_dict(again, state["model"])
    set_optimizer_state_dict(again, opt, state["optim"])
    opt.steps_applied = first
    train(again, opt, first, steps)

    alone = make_model()
    whole_run = make_optimizer(alone, dampening=0.0)
    train(alone, whole_run, 0, first + steps)
    return fingerprint(whole_run), fingerprint(opt)


def zero(world: int, steps: int, view: bool, amp: bool) -> list[Tensor]:
    """DDP with ZeroRedundancyOptimizer; returns the parameters."""
    model = make_model()
    ddp = DDP(model)
    opt = make_zero(model, view)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=amp)
    for step in range(steps):
        opt.zero_grad()
        loss = loss_of(ddp, step, rank())
        if amp and step in (0, 3) and rank() == 1:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
    assert opt.optim.steps_applied == steps - (2 if amp else 0)
    return [p.detach().clone() for p in model.parameters()]


def make_zero(model: nn.Module, view: bool = False) -> Any:
    # Importing torch's own module warns of what it uses itself.
    from torch.distributed.optim import ZeroRedundancyOptimizer

    options = {**OPTIONS, "schedule": schedule()}
    return ZeroRedundancyOptimizer(
        model.parameters(), optimizer_class=SGD, parameters_as_bucket_view=view, **options
    )


def zero_resumed(first: int, steps: int) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """Parameters of a run and of one that went through a state dict, and step counts on the way."""
    model = make_model()
    ddp = DDP(model)
    opt = make_zero(model)
    train(ddp, opt, 0, first)
    opt.consolidate_state_dict(to=0)
    # On the CPU, rank 0's own part of it is the live state.
    saved = [copy.deepcopy(opt.state_dict()) if rank() == 0 else None]
    dist.broadcast_object_list(saved, src=0)
    assert saved[0] is not None
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    train(ddp, opt, first, steps)

    again = make_model()
    again.load_state_dict(weights)
    other = make_zero(again)
    other.load_state_dict(saved[0])
    counts = [other.optim.steps_applied]
    train(DDP(again), other, first, steps)
    counts.append(other.optim.steps_applied)

    def values(model: nn.Module) -> list[Tensor]:
        return [p.detach().clone() for p in model.parameters()]

    return values(model), values(again), counts
