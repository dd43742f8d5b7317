"""Who is measured: torch.optim.SGD in all its forms, peers from the registry, and ours.

A contender turns parameters that have gradients into a function that does one step, its learning
rate included. All use the same momentum and weight decay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import fused_warmup

from . import rates

LR = 1e-3
OPTIONS: dict[str, Any] = {"momentum": 0.9, "weight_decay": 1e-4}

# With more, a step takes so long that nobody would use it.
MAX_TENSORS = {"fused": 30_000, "foreach": 10_000, "for-loop": 1000}

Step = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """One way to do a step.

    Attributes:
        name: As tables and plots call it.
        build: Makes the step for parameters; they may be shared with other contenders.
        max_tensors: With more than these it takes too long to be of use.
    """

    name: str
    build: Callable[[Sequence[Tensor]], Step]
    max_tensors: int = 10**9


def with_scheduler(optimizer: torch.optim.Optimizer, scheduler: str | None) -> Step:
    """Return the step of an optimizer and of torch's scheduler for it."""
    if scheduler is None:
        return optimizer.step
    after = rates.scheduler(scheduler, optimizer)

    def step() -> None:
        optimizer.step()
        after.step()

    return step


def torch_sgd(
    variant: str, scheduler: str | None = "LambdaLR", *, tensor_lr: bool = False
) -> Contender:
    """Return torch.optim.SGD; ``variant`` is "for-loop", "foreach" or "fused"."""

    def build(params: Sequence[Tensor]) -> Step:
        lr = torch.tensor(LR, device=params[0].device) if tensor_lr else LR
        flags = {"foreach": variant == "foreach", "fused": variant == "fused"}
        return with_scheduler(torch.optim.SGD(params, lr=lr, **flags, **OPTIONS), scheduler)

    rate = "tensor lr + " if tensor_lr else ""
    name = f"torch {variant} + {rate}{scheduler or 'constant lr'}"
    return Contender(name, build, max_tensors=MAX_TENSORS[variant])


def torch_compiled(scheduler: str | None = "LambdaLR", compiler: str = "inductor") -> Contender:
    """Return torch.optim.SGD under torch.compile, with the tensor lr that keeps it compiled."""

    def build(params: Sequence[Tensor]) -> Step:
        lr = torch.tensor(LR, device=params[0].device)
        optimizer = torch.optim.SGD(params, lr=lr, foreach=True, **OPTIONS)
        after = rates.scheduler(scheduler, optimizer) if scheduler else None
        compiled = torch.compile(optimizer.step, backend=compiler)

        def step() -> None:
            compiled()
            if after is not None:
                after.step()

        return step

    return Contender(f"torch compiled + tensor lr + {scheduler}", build, max_tensors=400)


def ours(backend: str) -> Contender:
    """Return fused_warmup.SGD on one backend."""

    def build(params: Sequence[Tensor]) -> Step:
        optimizer = fused_warmup.SGD(
            params, lr=LR, schedule=rates.schedule(), backend=backend, **OPTIONS
        )
        return optimizer.step

    limit = 400 if backend == "reference" else 10**9
    return Contender(f"ours: {backend}", build, max_tensors=limit)


def our_backends(device: torch.device) -> tuple[list[str], dict[str, str]]:
    """Return our backends that run on a device, best first, and why the others do not."""
    names, absent = [], {}
    for name, backend in fused_warmup.backends().items():
        types = fused_warmup._backend.device_types(name)
        if types is not None and device.type not in types:
            continue
        if backend.available:
            names.append(name)
        else:
            absent[f"ours: {name}"] = backend.reason
    return names, absent


def against_fused(device: torch.device) -> list[Contender]:
    """Return the pair that goals compare: ours, and torch fused with LambdaLR."""
    return [ours(our_backends(device)[0][0]), torch_sgd("fused")]


def everyone(device: torch.device) -> tuple[list[Contender], dict[str, str]]:
    """Return all contenders that run here but the compiled one, and why the others do not."""
    from . import peers

    names, absent = our_backends(device)
    contenders = [ours(name) for name in names]
    contenders += [
        torch_sgd("fused", scheduler) for scheduler in ("LambdaLR", "SequentialLR", None)
    ]
    contenders += [torch_sgd("fused", tensor_lr=True)]
    contenders += [torch_sgd("foreach"), torch_sgd("for-loop")]
    found, missing = peers.available(device)
    return contenders + found, absent | missing
