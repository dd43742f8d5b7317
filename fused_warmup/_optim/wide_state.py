"""What an optimizer keeps of a parameter in full precision: its average, and its master copy.

``state[p]["ema"]`` and ``state[p]["master_param"]``. Both start as copies of the parameter, and are
float32 where that is bfloat16 or float16; an average is of the parameter's dtype else.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._backend.extras import reread_master, widened
from .._step.counters import State
from .._tensors.layout import is_dense, same_layout
from .._tensors.memory import has_memory, is_fake
from .._tensors.shards import is_sharded, local_of, split_alike, split_as

NAMES = ("ema", "master_param")
"""Their keys in a parameter's state."""


def wants(name: str, param: Tensor, group: Mapping[str, Any]) -> bool:
    """Tell whether a group's options ask for an average, or a master, of a parameter."""
    if name == "ema":
        return group["ema_decay"] is not None
    return bool(group["master_weights"]) and widened(param.dtype) != param.dtype


def momentum_dtype(param: Tensor, group: Mapping[str, Any]) -> torch.dtype:
    """Return the dtype of a parameter's momentum: the master's where there is one."""
    return widened(param.dtype) if wants("master_param", param, group) else param.dtype


def ensure_wide_state(entry: dict[str, Any], param: Tensor, group: Mapping[str, Any]) -> None:
    """Give a parameter the average and the master that its group asks for, and take a master away.

    An average that is not asked for any more stays, for it can be used; a master would miss steps.

    Raises:
        TypeError: The state holds something else in their place.
        RuntimeError: One would have to be allocated while a CUDA graph is captured.
    """
    if not wants("master_param", param, group):
        entry.pop("master_param", None)
    for name in NAMES:
        if wants(name, param, group) and not _fits(entry.get(name), name, param):
            entry[name] = _made(entry.get(name), name, param)


def _fits(value: Any, name: str, param: Tensor) -> bool:
    """Tell whether a tensor of the state can be used as it is; False: `_made` makes another."""
    if value is None:
        return False
    if not isinstance(value, Tensor) or value.shape != param.shape or not has_memory(value):
        what = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else value
        raise TypeError(
            f"the {name} of a parameter of shape {tuple(param.shape)} is a {type(value).__name__} "
            f"{what}, it must be a tensor like the parameter: put back what was in the optimizer's "
            "state, or remove the key to start it anew"
        )
    ours, theirs = local_of(value), local_of(param)
    return (
        value.dtype == widened(param.dtype)
        and value.device == param.device
        and split_alike(value, param)
        and (same_layout(ours, theirs) or not is_dense(theirs))
    )


def _made(before: Tensor | None, name: str, param: Tensor) -> Tensor:
    """Return a new average or master: with the values of the one before, else the parameter's.

    A model may have been moved to another device, dtype or memory format since.
    """
    if param.is_cuda and not is_fake(local_of(param)) and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"a parameter of shape {tuple(param.shape)} has no {name} yet and a CUDA graph is "
            "being captured, every replay would start it anew: take one step before the capture"
        )
    dtype = widened(param.dtype)
    if before is None or before.is_meta:
        return param.detach().to(dtype=dtype, copy=True, memory_format=torch.preserve_format)
    values = split_as(before.detach().to(device=param.device, dtype=dtype), param)
    made = torch.empty_like(
        param, dtype=dtype, memory_format=torch.preserve_format, requires_grad=False
    )
    return made.copy_(values)


def reread_masters(state: State, params: Iterable[Tensor]) -> None:
    """Let masters follow parameters that were written to since their last step.

    Told element by element: where a parameter is its master rounded, the master stays.
    """
    for p in params:
        master = state[p].get("master_param") if p in state else None
        if master is not None and not (is_sharded(p) and not is_sharded(master)):
            reread_master(p, master)
