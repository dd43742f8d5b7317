"""What ranks do in tests/distributed/test_distributed_fsdp.py."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from distributed.common import (
    OPTIONS,
    averaged_step,
    batch,
    digest,
    fingerprint,
    loss_of,
    make_model,
    make_optimizer,
    rank,
    values_of,
    whole,
)
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.func import functional_call
from torch.nn.functional import mse_loss

from fused_warmup import SGD, clip_grad_norm_
from fused_warmup._step.sharded import ShardedPlan
from fused_warmup.schedules import table

Mesh = tuple[int, ...]


def shard(model: nn.Module, mesh: Mesh, **options: Any) -> FSDPModule:
    names = ("replicate", "shard")[-len(mesh) :]
    device_mesh = init_device_mesh("cpu", mesh, mesh_dim_names=names)
    for layer in model.children():
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=device_mesh, **options)
    return fully_shard(model, mesh=device_mesh, **options)


def parts_of(opt: SGD) -> list[str]:
    """Which plans the last step used."""
    assert opt._plan is not None
    return [type(part).__name__ for part in opt._plan.parts]


def train(steps: int, mesh: Mesh, **options: Any) -> tuple[Any, list[Tensor], list[str]]:
    model = shard(make_model(), mesh)
    opt = make_optimizer(model, **options)
    for step in range(steps):
        opt.zero_grad()
        loss_of(model, step, rank()).backward()
        with CommDebugMode() as mode:
            opt.step()
        assert mode.get_total_counts() == 0
    for p in model.parameters():
        assert isinstance(opt.state[p]["momentum_buffer"], DTensor)
        assert opt.state[p]["momentum_buffer"].placements == p.placements
    return fingerprint(opt), values_of(opt), parts_of(opt)


def split_by_columns(steps: int) -> tuple[Any, list[Tensor], list[str]]:
    model = shard(
        make_columns(), (2,), shard_placement_fn=lambda p: Shard(1) if p.ndim == 2 else Shard(0)
    )
    opt = make_optimizer(model)
    for step in range(steps):
        opt.zero_grad()
        model(columns_batch(step, rank())).square().mean().backward()
        opt.step()
    return fingerprint(opt), values_of(opt), parts_of(opt)


def make_columns() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))


def columns_batch(step: int, of: int) -> Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(50 * step + of))


def low_precision(steps: int, native: bool) -> tuple[Any, list[Tensor], list[str]]:
    """Forward and backward in bfloat16, the sum over ranks and the step in float32."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model = shard(make_model(), (2,), mp_policy=policy)
    opt = make_optimizer(model, backend=None if native else "reference")
    for step in range(steps):
        opt.zero_grad()
        x, y = batch(step, rank())
        mse_loss(model(x), y.bfloat16()).backward()
        opt.step()
    return fingerprint(opt), values_of(opt), parts_of(opt)


def low_precision_alone(steps: int) -> list[Tensor]:
    """The same in one process."""
    model = make_model()
    opt = make_optimizer(model)
    for step in range(steps):
        losses = []
        for of in (0, 1):
            low = {name: p.bfloat16() for name, p in model.named_parameters()}
            x, y = batch(step, of)
            losses.append(mse_loss(functional_call(model, low, x.bfloat16()), y.bfloat16()))
        averaged_step(model, opt, losses)
    return values_of(opt)


def beside_torch(steps: int, dtype: torch.dtype) -> tuple[str, str, list[str]]:
    """Digests of a run of ours and of torch.optim.SGD's, on DTensors of ``dtype``."""
    digests, parts = [], []
    for ours in (True, False):
        model = shard(make_model().to(dtype), (2,))
        options = {**OPTIONS, "dampening": 0.0, "nesterov": True}
        if ours:
            opt: Any = SGD(model.parameters(), **options)
        else:
            opt = torch.optim.SGD(model.parameters(), foreach=False, **options)
        for step in range(steps):
            opt.zero_grad()
            x, y = batch(step, rank())
            mse_loss(model(x.to(dtype)), y.to(dtype)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
        if ours:
            parts = parts_of(opt)
        digests.append(digest(whole(p.detach()) for p in model.parameters()))
    return (*digests, parts)


def overflow(steps: int, bad: dict[int, int], native: bool) -> tuple[Any, list[Tensor], list[int]]:
    """``bad`` says which rank alone overflows at a step."""
    model = shard(make_model(), (2,))
    opt = make_optimizer(model, backend=None if native else "reference")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    counts = []
    for step in range(steps):
        opt.zero_grad()
        loss = loss_of(model, step, rank())
        if bad.get(step) == rank():
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        counts.append(opt.steps_applied)
    return fingerprint(opt), values_of(opt), counts


def clipped_in_the_step(
    steps: int, bad: dict[int, int], max_norm: float, mixed: bool
) -> tuple[Any, list[Tensor], list[int]]:
    """``bad`` says which rank alone overflows at a step; ``mixed`` leaves the last layer whole."""
    model = make_model()
    if mixed:
        mesh = init_device_mesh("cpu", (2,))
        fully_shard(model[0], mesh=mesh)
        fully_shard(model[2], mesh=mesh)
    else:
        shard(model, (2,))
    opt = make_optimizer(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    counts = []
    for step in range(steps):
        opt.zero_grad()
        loss = loss_of(model, step, rank())
        if bad.get(step) == rank():
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        if mixed:
            for p in model[4].parameters():
                dist.all_reduce(p.grad)
                p.grad /= 2
        with CommDebugMode() as mode:
            clip_grad_norm_(opt, max_norm, scaler=scaler)
        assert mode.get_total_counts() == 1  # one number from each rank
        scaler.step(opt)
        scaler.update()
        counts.append(opt.steps_applied)
    return fingerprint(opt), values_of(opt), counts


def tensor_parallel(steps: int) -> tuple[Any, list[Tensor], list[str]]:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    parallelize_module(model, init_device_mesh("cpu", (2,)), plan)
    opt = make_optimizer(model)
    for step in range(steps):
        opt.zero_grad()
        model(columns_batch(step, 0)).square().mean().backward()
        opt.step()
    return fingerprint(opt), values_of(opt), parts_of(opt)


def gradient_split_otherwise() -> tuple[bool, list[str], list[str], str]:
    """A gradient that every rank holds whole, for a parameter that is split."""
    mesh = init_device_mesh("cpu", (2,))
    values = torch.arange(15.0).reshape(5, 3)

    def parameter() -> Tensor:
        return distribute_tensor(values, mesh, [Shard(0)]).requires_grad_()

    p, q = parameter(), parameter()
    split, whole_grad = SGD([p], **OPTIONS), SGD([q], **OPTIONS)
    routes = []
    for _ in range(3):
        p.grad = distribute_tensor(values.cos(), mesh, [Shard(0)])
        q.grad = distribute_tensor(values.cos(), mesh, [Replicate()])
        split.step()
        whole_grad.step()
        routes = [*parts_of(split), *parts_of(whole_grad)]
    same = digest(values_of(split)) == digest(values_of(whole_grad))
    q.grad = distribute_tensor(values.cos(), mesh, [Shard(0)])
    whole_grad.step()
    again = parts_of(whole_grad)
    named = SGD([q], backend="cpu", **OPTIONS)
    q.grad = distribute_tensor(values.cos(), mesh, [Replicate()])
    with pytest.raises(TypeError) as caught:
        named.step()
    return same, routes, again, str(caught.value)


def empty_shards(*momenta: float) -> tuple[list[int], list[str], bool]:
    """Marks of a parameter of one row on two ranks, before and after a skipped and real steps."""
    mesh = init_device_mesh("cpu", (2,))
    p = distribute_tensor(torch.ones(1, 3), mesh, [Shard(0)]).requires_grad_()
    opt = SGD([p], **OPTIONS, momentum_schedule=table(momenta))
    marks = [int(opt.state[p]["first_step"])]
    for found_inf in (1.0, *[0.0] * len(momenta)):
        p.grad = distribute_tensor(torch.ones(1, 3), mesh, [Shard(0)])
        opt.grad_scale, opt.found_inf = torch.tensor(2.0), torch.tensor(found_inf)
        opt.step()
        marks.append(int(opt.state[p]["first_step"]))
    del opt.grad_scale, opt.found_inf
    return marks, parts_of(opt), p.to_local().numel() == 0


def stale_graph() -> list[str]:
    """A graph that saved a parameter or a gradient must notice that a step has changed it."""
    mesh = init_device_mesh("cpu", (2,))
    p = distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)]).requires_grad_()
    local = p.to_local()
    losses = [(p * p).sum().full_tensor(), (local * local).sum()]
    opt = SGD([p], lr=0.1)
    p.grad = distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)])
    opt.step()
    errors = []
    for loss in losses:
        with pytest.raises(RuntimeError) as caught:
            loss.backward()
        errors.append(str(caught.value))
    return errors


def replaced_local() -> bool:
    """What FSDP2 does when a state dict is assigned: another local tensor in the same DTensor."""
    mesh = init_device_mesh("cpu", (2,))
    p = distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)]).requires_grad_()
    opt = SGD([p], lr=0.5)
    for _ in range(2):
        p.grad = distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)])
        opt.step()
    old = p._local_tensor
    p._local_tensor = torch.full_like(old, 7.0)
    kept = old.clone()
    opt.step()
    return bool((p._local_tensor == 6.5).all()) and torch.equal(old, kept)


def flat_parameters() -> str:
    """FSDP1: each rank's scaler sees its own shard only."""
    p = torch.ones(3, requires_grad=True)
    p._fsdp_flattened = True
    opt = SGD([p], lr=0.1)
    p.grad = torch.ones(3)
    opt.step()
    opt.grad_scale, opt.found_inf = torch.tensor(2.0), torch.tensor(0.0)
    with pytest.raises(RuntimeError) as caught:
        opt.step()
    assert opt.steps_applied == 1
    opt.grad_scale = None  # after scaler.unscale_(), which all ranks have agreed in
    opt.step()
    assert opt.steps_applied == 2
    with pytest.raises(RuntimeError, match="its own part only"):
        clip_grad_norm_(opt, 1.0)
    return str(caught.value)


def is_sharded_plan(name: str) -> bool:
    return name == ShardedPlan.__name__
