"""Whether tensors have the memory that their shapes promise: users may have taken it away."""

import sys
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .shards import local_of


def is_fake(tensor: Tensor) -> bool:
    """Tell whether a tensor is one of FakeTensorMode, which has a shape and no values."""
    module = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(tensor, module.FakeTensor)


def is_expanded(tensor: Tensor) -> bool:
    """Tell whether several elements are one in memory, as in ``expand``."""
    tensor = local_of(tensor)
    if tensor.layout != torch.strided or tensor.numel() == 0:
        return False
    return any(n > 1 and s == 0 for n, s in zip(tensor.shape, tensor.stride(), strict=True))


def is_wrapper(tensor: Tensor) -> bool:
    """Tell whether a tensor stands for others, without memory of its own; fake ones do."""
    by_class = type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__
    return by_class or is_transformed(tensor)


@torch._disable_dynamo  # type: ignore[attr-defined]  # it cannot trace this, and warns
def is_transformed(tensor: Tensor) -> bool:
    """Tell whether a transform of torch.func wraps a tensor, which has its own class still."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


@torch._disable_dynamo  # type: ignore[attr-defined]
def _is_of_a_derivative(tensor: Tensor) -> bool:
    """Tell whether torch.func.grad or jvp wraps a tensor, as they do all that is made inside."""
    return torch._C._functorch.is_gradtrackingtensor(tensor)


def is_dual(tensor: Tensor) -> bool:
    """Tell whether a tensor carries a tangent of forward-mode AD, which no kernel would move."""
    if not carries_tangents():
        return False
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def carries_tangents() -> bool:
    """Tell whether tensors may carry tangents now."""
    return forward_ad._current_level >= 0


def has_memory(tensor: Tensor) -> bool:
    """Tell whether a storage is as large as its tensor needs it.

    ``untyped_storage().resize_(0)`` takes memory away, and torch's own operations crash then.
    """
    tensor = local_of(tensor)
    if (
        is_wrapper(tensor)
        or tensor.layout != torch.strided
        or tensor.is_meta
        or tensor.numel() == 0
    ):
        return True
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    needed = (tensor.storage_offset() + last + 1) * tensor.element_size()
    return tensor.untyped_storage().nbytes() >= needed


def has_number(tensor: Tensor) -> bool:
    """Tell whether a tensor holds one number that can be read."""
    return (
        tensor.numel() == 1
        and tensor.layout == torch.strided
        and not tensor.is_meta
        and (not is_wrapper(tensor) or is_fake(tensor) or _is_of_a_derivative(tensor))
        and has_memory(tensor)
    )


def is_scalar(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Tell whether a tensor is one number of ``dtype``, for kernels to read and write."""
    return tensor.dtype == dtype and has_number(tensor) and not tensor.is_neg()


def is_row(tensor: Tensor, n: int) -> bool:
    """Tell whether a tensor is ``n`` float64 in a row, for kernels to write."""
    good = (tensor.dtype, tensor.shape) == (torch.float64, (n,)) and tensor.is_contiguous()
    writable = torch.is_inference_mode_enabled() or not tensor.is_inference()
    return good and writable and not tensor.is_neg() and has_memory(tensor)


def on_host(number: Tensor | float, if_fake: float) -> Any:
    """Return a number, that in a tensor of one element too, which waits for its device.

    Of a fake tensor, ``if_fake``: shapes and memory, all that FakeTensorMode is for, are the same.
    """
    if not isinstance(number, Tensor):
        return number
    return if_fake if is_fake(number) else number.item()
