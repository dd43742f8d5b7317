"""Which backend updates a parameter, and whether its gradient and its group's options will do."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from .._backend import default_backend, device_obstacle, device_types
from .._groups.names import describe
from .._groups.options import LARS_DEFAULTS, LARS_FLAGS, is_lars
from .._tensors.layout import is_dense, same_layout
from .._tensors.memory import carries_tangents, has_number, is_dual, is_transformed
from .._tensors.shards import is_sharded, local_of, split_alike

NATIVE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def native_obstacle(tensor: Tensor) -> tuple[str, str] | None:
    """Return why no native kernel can use a tensor and what it needs, or None if one can.

    Of a DTensor, the kernel uses the local tensor.
    """
    tensor = local_of(tensor)
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"is a {type(tensor).__name__}", "a plain tensor"
    if is_transformed(tensor):
        return "is wrapped by torch.func", "a plain tensor"
    if is_dual(tensor):
        return "carries a tangent of forward-mode AD", "a plain tensor"
    if tensor.layout != torch.strided:
        return f"has layout {tensor.layout}", "torch.strided"
    if tensor.dtype not in NATIVE_DTYPES:
        return f"is {tensor.dtype}", "float32, float64, bfloat16 or float16"
    return None


def parameter_obstacle(param: Tensor) -> tuple[str, str] | None:
    """Return why no native kernel can update a parameter in place, or None if one can."""
    if is_sharded(param) and any(p.is_partial() for p in param.placements):  # type: ignore[attr-defined]
        return "is a DTensor that is partial", "each element whole on one rank"
    obstacle = native_obstacle(param)
    param = local_of(param)
    if obstacle is None and param.numel() > 0 and not is_dense(param):
        return f"has strides {param.stride()}, with holes or overlaps", "dense memory"
    if obstacle is None and param.is_neg():
        return "is a negated view of a complex tensor", "a tensor of its own"
    return obstacle


def check_parameter(param: Tensor, group: Mapping[str, Any], backend: str | None) -> None:
    """Raise where the backend that the user asked for cannot update a parameter.

    Raises:
        TypeError: Its type, dtype or layout is not for that backend.
        ValueError: It is on another kind of device, or on one that the backend has no kernel for.
    """
    if backend in (None, "reference") or is_lazy(param):
        return
    assert backend is not None
    remedy = "pass backend=None, which finds a way for each parameter"
    obstacle = parameter_obstacle(param)
    if obstacle is not None:
        found, wanted = obstacle
        raise TypeError(
            f"{describe(param, group)} {found}, backend={backend!r} needs {wanted}: {remedy}"
        )
    devices = device_types(backend)
    if devices is not None and not param.is_meta and param.device.type not in devices:
        raise ValueError(
            f"{describe(param, group)} is on {param.device}, backend={backend!r} updates "
            f"parameters on {' or '.join(devices)}: move the model, or {remedy}"
        )
    unfit = "" if param.is_meta else device_obstacle(backend, param.device)
    if unfit:
        raise ValueError(
            f"{describe(param, group)} is on {param.device}, which backend={backend!r} cannot "
            f"update, {unfit}: {remedy}"
        )


def gradient_obstacle(param: Tensor, grad: Tensor) -> tuple[str, str] | None:
    """Return why no native kernel can use a gradient and what it needs, or None if one can."""
    if not split_alike(param, grad):
        split = "as a plain tensor" if not is_sharded(grad) else f"by {grad.placements}"  # type: ignore[attr-defined]
        return f"comes {split}", "the parameter's own split over ranks"
    obstacle = native_obstacle(grad)
    if obstacle is None and is_sharded(grad):
        ours, theirs = local_of(grad), local_of(param)
        if ours.shape != theirs.shape or not same_layout(ours, theirs):
            return f"has a shard of strides {ours.stride()}", f"the parameter's {theirs.stride()}"
    return obstacle


def backend_of(param: Tensor, group: Mapping[str, Any], backend: str | None) -> str:
    """Return the backend that updates a parameter with the gradient it has now."""
    if backend is not None:
        check_parameter(param, group, backend)
        return backend
    grad_will_do = param.grad is None or gradient_obstacle(param, param.grad) is None
    by_autograd = group["differentiable"] or carries_tangents()
    if by_autograd or not grad_will_do or parameter_obstacle(param) is not None:
        return "reference"
    return default_backend(param.device)


def check_gradient(param: Tensor, grad: Tensor, group: Mapping[str, Any], backend: str) -> None:
    """Raise where a gradient cannot be used, before anything is updated.

    Raises:
        TypeError: Its dtype or layout is not for the backend, or its dtype not for the parameter.
        ValueError: Its shape or device is not the parameter's, or it is sparse under weight decay.
    """
    who = describe(param, group)
    if not torch.can_cast(grad.dtype, param.dtype):
        raise TypeError(
            f"the gradient of {who} is {grad.dtype}, which a parameter of {param.dtype} cannot "
            "take: clear it with zero_grad() after changing a parameter's dtype"
        )
    if grad.shape != param.shape:
        raise ValueError(
            f"the gradient of {who} has shape {tuple(grad.shape)}, the two must be alike: "
            "clear it with zero_grad() and run backward again"
        )
    if grad.device != param.device:
        raise ValueError(
            f"the gradient of {who} is on {grad.device}, the parameter is on {param.device}, both "
            "must be on one device: clear gradients with zero_grad() after moving a model"
        )
    sparse = grad.layout != torch.strided
    if sparse and is_lars(group):
        raise TypeError(
            f"the gradient of {who} is sparse, and LARS takes the norm of dense ones: build the "
            "embedding with sparse=False, or give it to an SGD of its own"
        )
    if sparse and group["weight_decay"] != 0:
        raise ValueError(
            f"the gradient of {who} is sparse and weight_decay is {group['weight_decay']}, which "
            "would make it dense: put the parameter into a group with weight_decay=0"
        )
    if backend == "reference":
        return
    obstacle = gradient_obstacle(param, grad)
    if obstacle is not None:
        found, wanted = obstacle
        remedy = ", or build the embedding with sparse=False" if sparse else ""
        raise TypeError(
            f"the gradient of {who} {found}, backend={backend!r} needs {wanted}: pass "
            f"backend=None, which finds a way{remedy}"
        )


def laid_out_as(param: Tensor, grad: Tensor, copies: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return a gradient with the parameter's strides.

    Where that takes a copy, (``param``, ``grad``, the copy) is added to ``copies``.
    """
    plain = not (grad.is_neg() or grad._is_zerotensor())  # which have no such memory
    if is_sharded(grad) or (same_layout(grad, param) and plain):
        return grad
    copy = torch.empty_like(param, dtype=grad.dtype, memory_format=torch.preserve_format)
    copy.copy_(grad)
    copies.append((param, grad, copy))
    return copy


def number_in(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor of one number in the form that kernels read, on its own device.

    Raises:
        TypeError: It is of another layout or has no memory.
        ValueError: It has more elements than one, or none.
    """
    if tensor.numel() != 1:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, it must have one element: pass one number"
        )
    if not has_number(tensor) or tensor.is_complex():
        raise TypeError(
            f"{name} is a tensor of layout {tensor.layout} and dtype {tensor.dtype} on "
            f"{tensor.device}, it must be one real number with memory of its own: pass "
            "torch.tensor(number)"
        )
    return tensor.resolve_neg().reshape(())


def plain_options(
    group: Mapping[str, Any], device: torch.device, by_autograd: bool = False
) -> dict[str, Any]:
    """Return a group whose options are plain numbers, and whose tensor lr is on ``device``.

    Args:
        group: The group.
        device: Where the lr is read.
        by_autograd: Leave tensors alone that a differentiable group's gradients flow to.
    """
    plain = dict(group)
    names = ["lr", "momentum", "dampening", "weight_decay"]
    if by_autograd and group["differentiable"]:
        names = [name for name in names if not getattr(group[name], "requires_grad", False)]
    for name in names:
        value = group[name]
        if isinstance(value, Tensor):
            value = number_in(name, value.detach())
        if name == "lr" and isinstance(value, Tensor):
            dtype = value.dtype if value.dtype in NATIVE_DTYPES else torch.float64
            plain[name] = value.to(device=device, dtype=dtype, non_blocking=True)
        else:
            plain[name] = float(value)
    decay = group["ema_decay"]
    if decay is not None:
        plain["ema_decay"] = float(decay.detach() if isinstance(decay, Tensor) else decay)
    flags = ["nesterov", "maximize"]
    if is_lars(group):
        flags += LARS_FLAGS
        for name in LARS_DEFAULTS.keys() - LARS_FLAGS:
            plain[name] = float(group[name])
    for name in flags:
        plain[name] = bool(group[name])
    return plain
