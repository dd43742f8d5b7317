"""Where an optimizer's state lives: the step counter, the momentum, and the first-step marks.

One 0-dim int64 tensor a device counts the updates applied so far. Every parameter on that device
holds it as ``state[p]["step"]``, the one key that torch's loader does not cast to the parameter's
dtype. Loaders replace it and ZeRO moves it to the CPU; `Counters.tie` brings the value home and
ties all parameters to the device's own tensor again, whose address a captured graph may hold.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from . import options
from .reference import FIRST_STEP_BEFORE, FIRST_STEP_NEVER
from .routing import describe, is_dense, same_layout
from .sharded import any_nonzero, local_of, split_as

State = MutableMapping[Any, dict[str, Any]]


def home(param: Tensor) -> torch.device:
    """Return the device that holds a parameter's counter; the CPU while it is on meta."""
    return torch.device("cpu") if param.is_meta else param.device


class Counters:
    """The step counter of every device that holds parameters, all of one value."""

    def __init__(self) -> None:
        self.by_device: dict[torch.device, Tensor] = {}

    def of(self, device: torch.device) -> Tensor:
        """Return the counter of a device; a new one starts at the value of the others."""
        if device not in self.by_device:
            counter = torch.zeros((), dtype=torch.int64, device=device)
            for other in self.by_device.values():
                counter.copy_(other)
                break
            self.by_device[device] = counter
        return self.by_device[device]

    def value(self) -> int:
        """Return the count. Synchronises with the device."""
        return next((int(counter) for counter in self.by_device.values()), 0)

    def advance(self) -> None:
        """Count one step on every device, without a sync."""
        for counter in self.by_device.values():
            counter.add_(1)

    def set(self, value: int) -> None:
        """Set every device's counter in place."""
        for counter in self.by_device.values():
            counter.fill_(value)

    def tie(self, state: State, params: Iterable[Tensor]) -> None:
        """Make ``state[p]["step"]`` the device's counter for each parameter.

        Counters that somebody put in the place of ours carry the truth: their value is taken over.

        Raises:
            ValueError: They disagree.
        """
        tied = [p for p in params if p in state]
        foreign: dict[int, Any] = {}
        for p in tied:
            step = state[p].get("step")
            if step is not None and step is not self.by_device.get(home(p)):
                foreign[id(step)] = step
        if foreign:
            values = {int(step) for step in foreign.values()}
            if len(values) > 1:
                raise ValueError(
                    f"the loaded state holds step counts {sorted(values)}, all parameters of an "
                    "optimizer share one count: load a checkpoint of a single run"
                )
            for p in tied:
                self.of(home(p))
            self.set(values.pop())
        for p in tied:
            state[p]["step"] = self.of(home(p))
        if tied:
            # A device that parameters have left is not advanced any more: its count would be old.
            used = {home(p) for p in tied}
            self.by_device = {d: c for d, c in self.by_device.items() if d in used}


def ensure_state(state: State, param: Tensor, group: Mapping[str, Any]) -> None:
    """Give a parameter the state that its group's options need, beside the counter.

    Raises:
        TypeError: The momentum holds something, and its dtype or shape is not the parameter's any
            more. Until a step has filled it, a model may still change its dtype.
        RuntimeError: It would have to be allocated while a CUDA graph is captured.
    """
    entry = state[param]
    buffer = entry.get("momentum_buffer")
    if group["momentum"] == 0:
        return
    if buffer is not None and buffer.is_meta and not param.is_meta:
        buffer = None
    if buffer is not None and (buffer.dtype, buffer.shape) != (param.dtype, param.shape):
        if not buffer.is_meta and any_nonzero(buffer):
            raise TypeError(
                f"a parameter of shape {tuple(param.shape)} is {param.dtype} now and its "
                f"momentum_buffer is {buffer.dtype} of shape {tuple(buffer.shape)}, they must be "
                "alike: change a model's dtype before its first step, or build a new optimizer "
                "and load the old one's state_dict() into it"
            )
        buffer = None
    if buffer is None:
        if param.is_cuda and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                f"a parameter of shape {tuple(param.shape)} has no momentum_buffer yet and a CUDA "
                "graph is being captured, every replay would zero it: take one step before the "
                "capture, or set requires_grad before the optimizer is built"
            )
        buffer = torch.zeros_like(param, memory_format=torch.preserve_format, requires_grad=False)
    if buffer.device != param.device:
        buffer = buffer.to(param.device)
    buffer = split_as(buffer, param)
    ours, theirs = local_of(buffer), local_of(param)
    if is_dense(theirs) and not same_layout(ours, theirs):  # model.to(memory_format=...)
        buffer = torch.empty_like(param, memory_format=torch.preserve_format).copy_(buffer)
    entry["momentum_buffer"] = buffer
    if group["dampening"] != 0:
        mark = entry.get("first_step")
        mark = first_step_mark(buffer) if mark is None else mark
        entry["first_step"] = mark.to(device=home(param), dtype=torch.int64)


def with_plain_steps(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict whose step counts are ints.

    torch's loader makes a step tensor float32 where a group has ``fused`` set, and float32 cannot
    count past 2**24. An int passes through as it is.
    """
    plain = dict(state_dict)
    plain["state"] = {
        key: {
            name: int(value) if name == "step" and isinstance(value, Tensor) else value
            for name, value in entry.items()
        }
        if isinstance(entry, dict)
        else entry
        for key, entry in state_dict["state"].items()
    }
    return plain


def settled(mark: Tensor) -> Tensor:
    """Return a first-step mark that tells whether the parameter has stepped, but not when.

    A count that is set anew may come by the step of the mark again.
    """
    return torch.where(mark < 0, mark, FIRST_STEP_BEFORE).to(torch.int64)


def first_step_mark(momentum_buffer: Tensor) -> Tensor:
    """Return the mark of a parameter that has none: a buffer that holds anything was stepped.

    Told on the device, without a sync.
    """
    if momentum_buffer.is_meta:
        return torch.tensor(FIRST_STEP_NEVER, device="cpu")
    return torch.where(any_nonzero(momentum_buffer), FIRST_STEP_BEFORE, FIRST_STEP_NEVER).to(
        torch.int64
    )


def check_loadable(loaded: State, groups: list[dict[str, Any]]) -> None:
    """Raise, before anything has changed, where a loaded state cannot be used.

    Loaded groups are settled (see `options.settle`).

    Raises:
        TypeError: A group's option or a parameter's state is of the wrong type.
        ValueError: A group's option is out of range, a momentum is not of its parameter's shape, a
            mark is not of one element, or the step counts disagree.
    """
    steps = set()
    options.settle(groups)
    for group in groups:
        for p in group["params"]:
            entry = loaded.get(p, {})
            buffer, step = entry.get("momentum_buffer"), entry.get("step")
            mark = entry.get("first_step")
            for name, value in (("momentum_buffer", buffer), ("first_step", mark)):
                if value is not None and not isinstance(value, Tensor):
                    raise TypeError(
                        f"the loaded {name} of {describe(p, group)} is a {type(value).__name__}, "
                        "it must be a tensor: load what state_dict() gave"
                    )
            if mark is not None and mark.numel() != 1:
                raise ValueError(
                    f"the loaded first_step of {describe(p, group)} has shape "
                    f"{tuple(mark.shape)}, it must be one element: load what state_dict() gave"
                )
            if buffer is not None and buffer.shape != p.shape:
                raise ValueError(
                    f"the loaded momentum_buffer of {describe(p, group)} has shape "
                    f"{tuple(buffer.shape)}, the parameter has {tuple(p.shape)}: load a checkpoint "
                    "of the same model"
                )
            if step is not None:
                steps.add(int(step))
    if len(steps) > 1 or any(step < 0 for step in steps):
        raise ValueError(
            f"the loaded state holds step counts {sorted(steps)}, all parameters of an optimizer "
            "share one count of at least 0: load a checkpoint of a single run"
        )


@torch.no_grad()
def adopt(loaded: State, own: State, groups: Iterable[Mapping[str, Any]]) -> None:
    """Move loaded values into the tensors that the optimizer already has, and keep those.

    A captured graph holds their addresses. A parameter without a loaded momentum has not been
    stepped: its own is zeroed.
    """
    for group in groups:
        for p in group["params"]:
            entry, old = loaded.get(p, {}), own.get(p, {})
            buffer, mark = entry.pop("momentum_buffer", None), entry.pop("first_step", None)
            if mark is not None:
                mark = settled(mark)
            elif buffer is not None and group["dampening"] != 0 and "step" not in entry:
                # torch.optim.SGD's: it has no momentum before a parameter's first step.
                mark = torch.full((), FIRST_STEP_BEFORE, dtype=torch.int64, device=home(p))
            if "momentum_buffer" in old:
                kept = old["momentum_buffer"]
                buffer = kept.zero_() if buffer is None else _kept_or(buffer, kept)
            if "first_step" in old:
                mark = first_step_mark(buffer) if mark is None else mark
                mark = _kept_or(mark, old["first_step"])
            if buffer is not None:
                entry["momentum_buffer"] = buffer
            if mark is not None:
                entry["first_step"] = mark
            if entry:
                loaded[p] = entry


def _kept_or(value: Tensor, kept: Tensor) -> Tensor:
    """Return ``kept`` filled with ``value`` if it can hold it, else ``value``."""
    alike = (value.shape, value.dtype) == (kept.shape, kept.dtype)
    return kept.copy_(split_as(value, kept)) if alike else value


def without_live_counters(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict that shares no counter with the optimizer it came from."""
    clones: dict[int, Tensor] = {}

    def cloned(entry: dict[str, Any]) -> dict[str, Any]:
        step = entry.get("step")
        if not isinstance(step, Tensor):
            return entry
        return {**entry, "step": clones.setdefault(id(step), step.clone())}

    return {
        **state_dict,
        "state": {
            key: cloned(entry) if isinstance(entry, dict) else entry
            for key, entry in state_dict["state"].items()
        },
    }
