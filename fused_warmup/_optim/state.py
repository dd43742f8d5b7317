"""What an optimizer keeps of each parameter: the momentum and the first-step mark.

The step counter, which all of them share, is in `counters.py`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .._backend.extras import widened
from .._backend.reference import FIRST_STEP_BEFORE, FIRST_STEP_NEVER
from .._step.counters import State, copy_of_count, home
from .._tensors.layout import is_dense, same_layout
from .._tensors.memory import has_memory, has_number, is_fake, is_scalar, is_wrapper, on_host
from .._tensors.shards import any_nonzero, local_of, split_as
from .wide_state import ensure_wide_state, momentum_dtype, wants


def _tensor_in(entry: Mapping[str, Any], name: str, param: Tensor) -> Tensor | None:
    """Return a tensor of a parameter's state, None if it has none.

    Raises:
        TypeError: It is something else, or its memory was taken away.
    """
    value = entry.get(name)
    if value is None:
        return None
    what = f"the {name} of a parameter of shape {tuple(param.shape)}"
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{what} is a {type(value).__name__}, it must be a tensor: put back what was in the "
            "optimizer's state, or remove the key to start it anew"
        )
    if is_wrapper(value) and not is_wrapper(param):
        raise TypeError(
            f"{what} is a {type(value).__name__}, it must be a plain tensor as the parameter is: "
            "put back what was in the optimizer's state, or remove the key to start it anew"
        )
    if name == "momentum_buffer" and not has_memory(value):
        raise TypeError(
            f"{what} has no memory any more, {value.untyped_storage().nbytes()} bytes: put its "
            "values back, or remove the key to start it anew"
        )
    return value


def _mended_mark(mark: Tensor, buffer: Tensor | None) -> Tensor | None:
    """Return a first-step mark that somebody may have cast or emptied in place in its own form."""
    if is_scalar(mark, torch.int64):
        return mark
    if has_number(mark) and not mark.is_complex():
        return mark.resolve_neg().to(torch.int64).reshape(())
    return None if buffer is None else first_step_mark(buffer)


def ensure_state(state: State, param: Tensor, group: Mapping[str, Any]) -> None:
    """Give a parameter the state that its group's options need, beside the counter.

    Raises:
        TypeError: The momentum holds something, and its dtype or shape is not the parameter's any
            more (until a step has filled it, a model may still change its dtype); or the state
            holds something else in its place.
        RuntimeError: It would have to be allocated while a CUDA graph is captured.
    """
    entry = state[param]
    buffer = _tensor_in(entry, "momentum_buffer", param)
    mark = _tensor_in(entry, "first_step", param)
    if mark is not None:
        mark = _mended_mark(mark, buffer)
        if mark is None:
            del entry["first_step"]
        else:
            entry["first_step"] = mark
    had_master = "master_param" in entry
    ensure_wide_state(entry, param, group)
    if group["momentum"] == 0:
        return
    if buffer is not None and buffer.is_meta and not param.is_meta:
        buffer = None
    if buffer is not None and buffer.layout != torch.strided:  # of torch.optim.SGD, sparse
        buffer = buffer.to_dense()
    if buffer is not None and buffer.is_neg():
        buffer = buffer.resolve_neg()
    dtype = momentum_dtype(param, group)
    turned = had_master != wants("master_param", param, group)  # on or off since the last step
    if buffer is not None and turned and buffer.dtype in (param.dtype, widened(param.dtype)):
        buffer = buffer.to(dtype)
    if buffer is not None and (buffer.dtype, buffer.shape) != (dtype, param.shape):
        if not buffer.is_meta and on_host(any_nonzero(buffer), False):
            raise TypeError(
                f"a parameter of shape {tuple(param.shape)} is {param.dtype} now and its "
                f"momentum_buffer is {buffer.dtype} of shape {tuple(buffer.shape)}, they must be "
                "alike: change a model's dtype before its first step, or build a new optimizer "
                "and load the old one's state_dict() into it"
            )
        buffer = None
    if buffer is None:
        if entry.get("momentum_buffer") is None:  # torch, too, takes that for a first step
            entry.pop("first_step", None)
        real = param.is_cuda and not is_fake(local_of(param))
        if real and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                f"a parameter of shape {tuple(param.shape)} has no momentum_buffer yet and a CUDA "
                "graph is being captured, every replay would zero it: take one step before the "
                "capture, or set requires_grad before the optimizer is built"
            )
        buffer = torch.zeros_like(
            param, dtype=dtype, memory_format=torch.preserve_format, requires_grad=False
        )
    if buffer.device != param.device:
        buffer = buffer.to(param.device)
    buffer = split_as(buffer, param)
    ours, theirs = local_of(buffer), local_of(param)
    if is_dense(theirs) and not same_layout(ours, theirs):  # model.to(memory_format=...)
        laid_out = torch.empty_like(param, dtype=dtype, memory_format=torch.preserve_format)
        buffer = laid_out.copy_(buffer)
    entry["momentum_buffer"] = buffer
    if group["dampening"] != 0:
        mark = entry.get("first_step")
        mark = first_step_mark(buffer) if mark is None else mark
        entry["first_step"] = mark.to(device=home(param), dtype=torch.int64)


def settled(mark: Tensor, count: int = 0) -> Tensor:
    """Return a first-step mark without the step that it names, unless that is before ``count``.

    A count that is set anew may come by the step of the mark again.
    """
    stays = (mark < 0) | (mark < count)
    return torch.where(stays, mark, FIRST_STEP_BEFORE).to(torch.int64)


def first_step_mark(momentum_buffer: Tensor) -> Tensor:
    """Return the mark of a parameter that has none: a buffer that holds anything was stepped.

    Told on the device, without a sync.
    """
    if momentum_buffer.is_meta:
        return torch.tensor(FIRST_STEP_NEVER, device="cpu")
    return torch.where(any_nonzero(momentum_buffer), FIRST_STEP_BEFORE, FIRST_STEP_NEVER).to(
        torch.int64
    )


def pack(state: State, groups: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a state dict as torch packs it: parameters by number, shared by their first one.

    The count alone is a copy, one for all parameters that share it: what a state dict tells of a
    step must not change with the next.

    Raises:
        TypeError: The memory of the count is gone.
    """
    number_of: dict[Tensor, int] = {}
    packed_groups = []
    n = 0
    for group in groups:
        for i, p in enumerate(group["params"], n):
            number_of.setdefault(p, i)
        n += len(group["params"])
        options = {name: value for name, value in group.items() if name != "params"}
        packed_groups.append({**options, "params": [number_of[p] for p in group["params"]]})

    clones: dict[int, Tensor] = {}

    def with_own_count(entry: Any) -> Any:
        step = entry.get("step") if isinstance(entry, dict) else None
        if not isinstance(step, Tensor):
            return entry
        return {**entry, "step": clones.setdefault(id(step), copy_of_count(step))}

    packed = {
        number_of[key] if isinstance(key, Tensor) else key: with_own_count(entry)
        for key, entry in state.items()
    }
    return {"state": packed, "param_groups": packed_groups}
