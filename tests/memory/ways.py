"""The ways to change a tensor, or what stands in its place, behind a step's back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor


class Subclass(torch.nn.Parameter):
    """As plain as can be: no behaviour of its own."""


def in_other_memory(values: Tensor, offset: int) -> Tensor:
    """Equal values that start ``offset`` elements after an aligned address."""
    room = values.new_zeros(values.numel() + offset)
    return room[offset:].view(values.shape).copy_(values)


def with_holes(values: Tensor) -> Tensor:
    """Equal values, every second element of the memory unused."""
    return torch.stack((values, values), -1)[..., 0]


def column_major(values: Tensor) -> Tensor:
    return values.t().contiguous().t() if values.dim() == 2 else values.clone()


def negated(values: Tensor) -> Tensor:
    return torch._neg_view(-values)


def inference(values: Tensor) -> Tensor:
    with torch.inference_mode():
        return values.clone()


def two(values: Tensor) -> Tensor:
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(values.clone(), values.clone())


def swap(tensor: Tensor) -> None:
    """By torch.utils.swap_tensors, the other tensor gone at once. The gradient stays."""
    grad, tensor.grad = tensor.grad, None
    other = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    other.__class__ = tensor.__class__
    torch.utils.swap_tensors(tensor, other)
    del other
    tensor.grad = grad


def resize(*shape: int) -> Callable[[Tensor], object]:
    def apply(tensor: Tensor) -> None:
        requires_grad = tensor.requires_grad
        tensor.requires_grad_(False).resize_(shape).fill_(1)
        tensor.requires_grad_(requires_grad)

    return apply


def set_data(make: Callable[[Tensor], Tensor]) -> Callable[[Tensor], object]:
    def apply(tensor: Tensor) -> None:
        tensor.data = make(tensor.data)

    return apply


def resize_storage(tensor: Tensor, n_bytes: int) -> None:
    tensor.untyped_storage().resize_(n_bytes)


def become(kind: type) -> Callable[[Tensor], object]:
    def apply(tensor: Tensor) -> None:
        tensor.__class__ = kind

    return apply


KEEPS: dict[str, Callable[[Tensor], object]] = {
    "data": set_data(torch.clone),
    "data_aligned_otherwise": set_data(lambda v: in_other_memory(v, 3)),
    "data_column_major": set_data(column_major),
    "data_with_holes": set_data(with_holes),
    "data_negated": set_data(negated),
    "set": lambda x: x.set_(x.detach().clone()),
    "set_storage": lambda x: x.set_(
        x.detach().clone().untyped_storage(), 0, x.shape, x.detach().clone().stride()
    ),
    "share_memory": lambda x: x.share_memory_(),
    "storage_grows": lambda x: resize_storage(x, 1 << 16),
    "swap": swap,
    "requires_grad": lambda x: x.requires_grad_(not x.requires_grad),
    "subclass": become(Subclass),
    "detach": lambda x: x.detach_(),
}
"""In place: afterwards it has the same values, shape and dtype, so a step must come out right."""

OTHER_DTYPE = {torch.float32: torch.int32, torch.float64: torch.int64, torch.int64: torch.float64}
"""Of the same width: with `view`, only the meaning of the memory changes."""

SPOILS: dict[str, Callable[[Tensor], object]] = {
    "set_nothing": lambda x: x.set_(),
    "set_shorter": lambda x: x.set_(x.new_ones(1)),
    "resize_0": resize(0),
    "resize_bigger": resize(50, 20),
    "resize_other": resize(2, 8),
    "storage_0": lambda x: resize_storage(x, 0),
    "data_shorter": set_data(lambda v: v.new_ones(3)),
    "data_empty": set_data(lambda v: v.new_ones(0)),
    "data_longer": set_data(lambda v: v.new_ones(80)),
    "data_expanded": set_data(lambda v: v.new_ones(()).expand(v.shape or (1,))),
    **{
        f"data_{str(dtype)[6:]}": set_data(lambda v, dtype=dtype: v.to(dtype))
        for dtype in (
            *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
            *(torch.int8, torch.int32, torch.int64, torch.bool, torch.complex64),
        )
    },
    "data_reinterpreted": set_data(lambda v: v.view(OTHER_DTYPE[v.dtype])),
    "data_inference": set_data(inference),
    "t": lambda x: x.t_(),
    "squeeze": lambda x: x.unsqueeze_(0),
    "as_strided": lambda x: x.as_strided_((4, 2), (4, 1)),
    "as_strided_overlapping": lambda x: x.as_strided_((4, 4), (1, 1)),
    "subclass_with_gradient": become(type("Odd", (Subclass,), {"grad": None})),
}
"""In place: what comes of a step is torch's result, or an error."""


def _values(old: Any) -> Tensor:
    return old.detach() if isinstance(old, Tensor) else torch.as_tensor(old)


REPLACES: dict[str, Callable[[Any], Any]] = {
    "clone": lambda v: v.clone(),
    "none": lambda v: None,
    "float": lambda v: float(v.flatten()[0]),
    "int": lambda v: int(v.flatten()[0]),
    "bool": lambda v: bool(v.flatten()[0]),
    "numpy": lambda v: v.numpy().copy(),
    "numpy_scalar": lambda v: numpy.float64(v.flatten()[0]),
    "text": lambda v: str(float(v.flatten()[0])),
    "list": lambda v: v.tolist(),
    "object": lambda v: object(),
    "empty": lambda v: v.new_ones(0),
    "longer": lambda v: v.new_ones(80),
    "one_more_dim": lambda v: v.clone()[None],
    "meta": lambda v: v.to("meta"),
    "sparse": lambda v: v.to_sparse(),
    "with_holes": with_holes,
    "negated": negated,
    "inference": inference,
    "wrapper": two,
    "parameter": lambda v: torch.nn.Parameter(v.clone(), v.is_floating_point()),
    "of_a_graph": lambda v: v.clone().requires_grad_() * 1.0,
    **{
        str(dtype)[6:]: lambda v, dtype=dtype: v.to(dtype)
        for dtype in (
            *(torch.float16, torch.float32, torch.float64),
            *(torch.int8, torch.int32, torch.int64, torch.bool, torch.complex64),
        )
    },
}
"""From the old values, what is put in the tensor's place."""

TORCH_DIES = {"storage_0"}
"""torch's own loop reads address 0 then. A storage that is only too short is left out: there, torch
reads and writes beyond its end in silence, and so may we."""

NO_MATTER = {"as_strided_overlapping", "data_expanded"}
"""Of a tensor that is written to: what an element becomes depends on the order of the writes."""


def is_of_dtype(way: str) -> torch.dtype | None:
    """Return the dtype that a way gives a tensor, if that is what it does."""
    dtype = getattr(torch, way.removeprefix("data_").removeprefix("becomes_"), None)
    return dtype if isinstance(dtype, torch.dtype) else None


@dataclass(frozen=True)
class Way:
    """One way to change a target of a subject."""

    name: str
    apply: Callable[[Any, Any], None]  # (target, subject)
    keeps: bool


def _in_place(change: Callable[[Tensor], object]) -> Callable[[Any, Any], None]:
    def apply(target: Any, subject: Any) -> None:
        with torch.no_grad():
            change(target.get(subject))

    return apply


def _replacing(make: Callable[[Any], Any]) -> Callable[[Any, Any], None]:
    def apply(target: Any, subject: Any) -> None:
        target.set(subject, make(_values(target.get(subject))))

    return apply


def ways_for(target: Any) -> list[Way]:
    """Return all ways that a target offers."""
    ways = [Way(name, _in_place(change), True) for name, change in KEEPS.items()]
    ways += [Way(name, _in_place(change), False) for name, change in SPOILS.items()]
    if target.set is not None:
        for name, make in REPLACES.items():
            ways.append(Way(f"becomes_{name}", _replacing(make), name == "clone"))
    if target.delete is not None:
        ways.append(Way("deleted", lambda target, subject: target.delete(subject), False))
    return ways
