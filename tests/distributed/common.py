"""What the ranks of the tests share: a network, its data, and fingerprints of an optimizer."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import mse_loss

from fused_warmup import SGD, linear_warmup
from fused_warmup._backend.reference import FIRST_STEP_NEVER
from fused_warmup.schedules import cosine

STEPS = 8
VALUES = ("momentum_buffer", "step", "ema", "master_param")
OPTIONS: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}


def schedule():
    return linear_warmup(5, start=0.1).then(cosine(20))


def make_model(inputs: int = 9, hidden: int = 13) -> nn.Sequential:
    """The same on every rank; sizes that no world size divides."""
    torch.manual_seed(1)
    layers = nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh()
    return nn.Sequential(*layers, nn.Linear(hidden, 1))


def make_optimizer(model: nn.Module, **options: Any) -> SGD:
    return SGD(model.parameters(), **{**OPTIONS, "schedule": schedule(), **options})


def batch(step: int, rank: int, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + rank)
    x = torch.randn(size, 9, generator=generator)
    return x, torch.sin(x.sum(1, keepdim=True))


def loss_of(model: nn.Module, step: int, rank: int) -> Tensor:
    x, y = batch(step, rank)
    return mse_loss(model(x), y)


def whole(tensor: Any) -> Any:
    """A DTensor's values from all ranks; anything else as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def values_of(opt: torch.optim.Optimizer) -> list[Tensor]:
    """Copies of all parameters, momentum buffers, marks and the step count, whole.

    Of a first-step mark, what counts: whether the parameter has stepped, not when.
    """
    found = []
    for group in opt.param_groups:
        for p in group["params"]:
            entry = opt.state.get(p, {})
            state = [entry[k] for k in VALUES if k in entry]
            if "first_step" in entry:
                state.append(entry["first_step"] != FIRST_STEP_NEVER)
            found += [whole(x.detach()).clone() for x in (p, *state)]
    return found


def digest(tensors: Iterable[Tensor]) -> str:
    """A name for the bits of all tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def fingerprint(opt: SGD) -> tuple[str, int, list[float]]:
    """The bits of parameters and state, the step count and the last rate."""
    return digest(values_of(opt)), opt.steps_applied, opt.get_last_lr()


def averaged_step(
    model: nn.Module, opt: SGD, losses: list[Tensor], max_norm: float | None = None
) -> None:
    """The step that a data-parallel run of as many ranks makes, in one process.

    Each gradient is divided by the number of ranks before the sum, as DDP does it.
    """
    sums: list[Tensor | None] = [None] * len(list(model.parameters()))
    for loss in losses:
        opt.zero_grad()
        loss.backward()
        for i, p in enumerate(model.parameters()):
            if p.grad is not None:
                part, so_far = p.grad / len(losses), sums[i]
                sums[i] = part if so_far is None else so_far + part
    for p, total in zip(model.parameters(), sums, strict=True):
        p.grad = total
    if max_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    opt.step()


def single_process(world: int, steps: int = STEPS, **options: Any) -> list[Tensor]:
    """The values that ``world`` ranks should end with."""
    model = make_model()
    opt = make_optimizer(model, **options)
    for step in range(steps):
        averaged_step(model, opt, [loss_of(model, step, rank) for rank in range(world)])
    return values_of(opt)


def rank() -> int:
    return dist.get_rank()
