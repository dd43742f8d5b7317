"""A model that has the averages for weights: one beside the trained model, or that model itself."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.parallel import DistributedDataParallel

from .._backend.extras import widened
from .._step.counters import making_state
from .._tensors.shards import local_of, split_as

if TYPE_CHECKING:
    from .counted import CountedOptimizer


def averaged_model(optimizer: "CountedOptimizer", model: Module, copy_buffers: bool) -> Module:
    """Return a model over an optimizer's averages; see `SGD.averaged`."""
    while isinstance(model, DistributedDataParallel):
        model = model.module
    if any(map(_is_fsdp, model.modules())):
        raise TypeError(
            "a model under fully_shard cannot be copied, it must be evaluated in place: use "
            "`with opt.swap_averaged(model):`"
        )
    with making_state():  # for what is made in inference mode cannot be used outside
        return _copy_over(model, averages_of(optimizer, model), copy_buffers)


def _copy_over(model: Module, averages: dict[Tensor, Tensor], copy_buffers: bool) -> Module:
    memo: dict[int, Any] = {}
    # Of a half model, all is to be in the dtype of the averages, so that it can compute.
    narrow = any(ema.dtype != p.dtype for p, ema in averages.items())
    for p in model.parameters():
        value = averages.get(p)
        if value is None and narrow and widened(p.dtype) != p.dtype:
            value = p.detach().to(widened(p.dtype))
        memo[id(p)] = p if value is None else Parameter(value, requires_grad=False)
    for buffer in model.buffers():
        if narrow and buffer.is_floating_point():
            memo[id(buffer)] = buffer.detach().to(widened(buffer.dtype), copy=copy_buffers)
        elif not copy_buffers:
            memo[id(buffer)] = buffer
    return copy.deepcopy(model, memo)


@contextmanager
def swapped(optimizer: "CountedOptimizer", model: Module) -> Iterator[None]:
    """Let a model have the averages for a ``with`` block; see `SGD.swap_averaged`."""
    if optimizer._is_swapped:
        raise RuntimeError(
            "the model has the averages for weights already: leave the first swap_averaged before "
            "another"
        )
    _reshard(model)
    averages = averages_of(optimizer, model)
    weights = {p: local_of(p).detach().clone() for p in averages}
    optimizer._forget_plan()  # the next step looks whether it may
    optimizer._is_swapped = True
    try:
        with torch.no_grad():
            for p, ema in averages.items():
                local_of(p).copy_(local_of(split_as(ema, p)))
        yield
    finally:
        _reshard(model)  # what was gathered meanwhile is of the averages
        with torch.no_grad():
            for p, values in weights.items():
                local_of(p).copy_(values)
        optimizer._is_swapped = False


def averages_of(optimizer: "CountedOptimizer", model: Module) -> dict[Tensor, Tensor]:
    """Return the average of each of a model's parameters that has one.

    Raises:
        ValueError: None has.
    """
    optimizer._start_averages()
    found: dict[Tensor, Tensor] = {
        p: optimizer.state[p]["ema"]
        for p in model.parameters()
        if p in optimizer.state and optimizer.state[p].get("ema") is not None
    }
    if not found:
        raise ValueError(
            "no parameter of the model has an average in this optimizer: build it with ema_decay=, "
            "and pass the model that it trains"
        )
    return found


def _is_fsdp(module: Module) -> bool:
    # FSDP2's class is mixed into the module's own.
    return callable(getattr(module, "reshard", None)) and callable(getattr(module, "unshard", None))


def _reshard(model: Module) -> None:
    """Let FSDP2 drop whole parameters that it may hold on to, and gather them again."""
    for module in model.modules():
        if _is_fsdp(module):
            module.reshard()  # type: ignore[operator]
