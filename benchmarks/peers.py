"""Other packages' SGD, each optional: ``pip install torch-optimi bitsandbytes``, apex by hand."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .contenders import LR, OPTIONS, Contender, Step, with_scheduler


def _optimi(module: Any, params: Sequence[Tensor]) -> torch.optim.Optimizer:
    return module.SGD(params, lr=LR, **OPTIONS)


def _bitsandbytes(module: Any, params: Sequence[Tensor]) -> torch.optim.Optimizer:
    return module.optim.SGD(params, lr=LR, **OPTIONS)


def _apex(module: Any, params: Sequence[Tensor]) -> torch.optim.Optimizer:
    return module.FusedSGD(params, lr=LR, **OPTIONS)


# Name, module, optimizer; apex has no CPU kernel.
PEERS: tuple[tuple[str, str, Callable[[Any, Sequence[Tensor]], torch.optim.Optimizer]], ...] = (
    ("torch-optimi", "optimi", _optimi),
    ("bitsandbytes", "bitsandbytes", _bitsandbytes),
    ("apex FusedSGD", "apex.optimizers", _apex),
)


def available(device: torch.device) -> tuple[list[Contender], dict[str, str]]:
    """Return the peers that do a step on a device, and for the others the reason why not."""
    found, absent = [], {}
    for name, module_name, make in PEERS:

        def build(
            params: Sequence[Tensor], module_name: str = module_name, make: Any = make
        ) -> Step:
            return with_scheduler(make(importlib.import_module(module_name), params), "LambdaLR")

        name = f"{name} + LambdaLR"
        p = torch.ones(4096, device=device, requires_grad=True)
        p.grad = torch.ones_like(p)
        try:
            build([p])()
        except Exception as error:  # whatever a foreign package raises is a reason
            absent[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            found.append(Contender(name, build, max_tensors=1000))
    return found, absent
