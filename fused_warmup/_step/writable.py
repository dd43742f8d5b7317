"""Whether a step may write to a parameter, its momentum and its gradient, asked before it does."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._groups.names import describe
from .._tensors.memory import has_memory, is_expanded


def check_writable(
    param: Tensor, entry: Mapping[str, Any], group: Mapping[str, Any], writes_grad: bool
) -> None:
    """Raise where the memory of a parameter that has a gradient is not there to be written.

    Args:
        param: The parameter.
        entry: Its state.
        group: Its group.
        writes_grad: Whether the step writes to its gradient, too.

    Raises:
        RuntimeError: A tensor's storage is smaller than the tensor; one is expanded, so that many
            elements are one; one is an inference tensor, outside of inference mode; or the
            parameter is a leaf of a differentiable group.
    """
    who = describe(param, group)
    grad, buffer = param.grad, entry.get("momentum_buffer")
    written: list[tuple[str, Tensor]] = [(who, param)]
    if buffer is not None and group["momentum"] != 0:
        written.append((f"the momentum_buffer of {who}", buffer))
    wide = (name for name in ("ema", "master_param") if entry.get(name) is not None)
    written += [(f"the {name} of {who}", entry[name]) for name in wide]
    read = [] if grad is None else [(f"the gradient of {who}", grad)]
    for what, tensor in (*written, *read):
        if not has_memory(tensor):
            raise RuntimeError(
                f"{what} has shape {tuple(tensor.shape)} and a storage of "
                f"{tensor.untyped_storage().nbytes()} bytes, which is too small: give its "
                "memory back before the step"
            )
    for what, tensor in written:
        if is_expanded(tensor):
            raise RuntimeError(
                f"{what} has strides {tensor.stride()}, so that several elements are one in memory "
                "and cannot be updated each: use a clone() of it"
            )
    if writes_grad:
        written += read
    for what, tensor in written:
        if tensor.is_inference() and not torch.is_inference_mode_enabled():
            raise RuntimeError(
                f"{what} is an inference tensor, which may be changed in inference mode only: make "
                "it outside of torch.inference_mode(), or clone() what was made inside"
            )
    if group["differentiable"] and param.is_leaf and param.requires_grad:
        raise RuntimeError(
            f"{who} is a leaf that requires grad, and differentiable=True lets autograd record the "
            "step, which cannot change a leaf in place: pass a clone() of the parameter, or "
            "differentiable=False"
        )
