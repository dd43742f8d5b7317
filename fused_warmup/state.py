"""Where an optimizer's state lives: the step counter, the momentum, and the first-step marks.

One 0-dim int64 tensor a device counts the updates applied so far. Every parameter on that device
holds it as ``state[p]["step"]``, the one key that torch's loader does not cast to the parameter's
dtype. Loaders replace it and ZeRO moves it to the CPU; `Counters.tie` brings the value home and
ties all parameters to the device's own tensor again, whose address a captured graph may hold.
"""

import operator
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .memory import has_memory, has_number, is_fake, is_scalar, is_wrapper
from .reference import FIRST_STEP_BEFORE, FIRST_STEP_NEVER, count_step, on_host
from .routing import is_dense, same_layout
from .sharded import any_nonzero, local_of, split_as

State = MutableMapping[Any, dict[str, Any]]
MAX_STEPS = 2**62
"""The highest count that is taken: far above any training, and from there none wraps around."""


def home(param: Tensor) -> torch.device:
    """Return the device that holds a parameter's counter; the CPU while it is on meta."""
    return torch.device("cpu") if param.is_meta else param.device


@contextmanager
def making_state() -> Iterator[None]:
    """What state is made under: no tensor of inference mode, which could not be stepped outside."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def count_of(step: Any) -> int:
    """Return a step count that a checkpoint or a loader brought as an int.

    Raises:
        TypeError: It is no number.
        ValueError: It is no whole number.
    """
    value = step
    if isinstance(step, Tensor):
        if not has_number(local_of(step)):  # to print it might read memory that is gone
            raise TypeError(
                f"a step count of the loaded state is a {step.dtype} tensor of shape "
                f"{tuple(step.shape)} without a number, it must be a whole number: load what "
                "state_dict() gave, or set steps_applied"
            )
        value = on_host(local_of(step), 0)
    try:
        if isinstance(value, bool):
            raise TypeError
        count = int(value) if isinstance(value, float) else operator.index(value)
        if count != value:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"a step count of the loaded state is {step!r}, it must be a whole number: load what "
            "state_dict() gave"
        ) from None
    return count


def one_count(steps: Iterable[Any]) -> int:
    """Return the count that all of some parameters' steps are; see `count_of`.

    Raises:
        TypeError: One is no number.
        ValueError: They disagree, or are no counts.
    """
    values = set(map(count_of, steps))
    if len(values) > 1 or not all(0 <= value <= MAX_STEPS for value in values):
        raise ValueError(
            f"the loaded state holds step counts {sorted(values)}, all parameters of an optimizer "
            f"share one count of at least 0 and at most {MAX_STEPS}: load a checkpoint of a single "
            "run"
        )
    return values.pop()


class Counters:
    """The step counter of every device that holds parameters, all of one value."""

    def __init__(self) -> None:
        self.by_device: dict[torch.device, Tensor] = {}
        # The count while no kernel can have moved it, with the version of each counter then.
        self._known: tuple[int, list[int]] | None = None
        self._launched = False

    def of(self, device: torch.device) -> Tensor:
        """Return the counter of a device; a new one starts at the value of the others."""
        if device not in self.by_device:
            known = None if self.by_device and not self._is_known() else self.value()
            with making_state():
                counter = torch.zeros((), dtype=torch.int64, device=device)
                for other in self.by_device.values():
                    counter.copy_(other)
                    break
            self.by_device[device] = counter
            if known is not None:
                self._know(known)
        return self.by_device[device]

    def value(self) -> int:
        """Return the count. Synchronises with the device, but not before the first step."""
        if self._known is not None and self._is_known():
            return self._known[0]
        return next((int(on_host(counter, 0)) for counter in self.by_device.values()), 0)

    def _versions(self) -> list[int] | None:
        counters = self.by_device.values()
        return None if any(c.is_inference() for c in counters) else [c._version for c in counters]

    def _is_known(self) -> bool:
        """Whether nobody has written to the counters since their value was noted."""
        return self._known is not None and self._known[1] == self._versions()

    def _know(self, value: int) -> None:
        versions = self._versions()
        known = not self._launched and versions is not None
        self._known = (value, versions or []) if known else None

    def leave_to_kernels(self) -> None:
        """Take into account that launches move the count from here on, of graphs for example."""
        self._launched, self._known = True, None

    def advance(self) -> None:
        """Count one step on every device, without a sync."""
        for counter in self.by_device.values():
            count_step(counter)

    def set(self, value: int) -> None:
        """Set every device's counter, in place unless it is no counter any more."""
        for device, counter in self.by_device.items():
            if is_scalar(counter, torch.int64):
                counter.fill_(value)
            else:  # somebody has cast or emptied it, by its .data say
                with making_state():
                    fresh = torch.tensor(value, dtype=torch.int64, device=device)
                self.by_device[device] = fresh
        self._know(value)

    def tie(self, state: State, params: Iterable[Tensor]) -> None:
        """Make ``state[p]["step"]`` the device's counter for each parameter.

        Counters that somebody put in the place of ours carry the truth: their value is taken over.

        Raises:
            TypeError: One is no number.
            ValueError: They disagree, or are no counts.
        """
        tied = [p for p in params if p in state]
        foreign: dict[int, Any] = {}
        for p in tied:
            step = state[p].get("step")
            ours = self.by_device.get(home(p))
            if step is not None and (step is not ours or not is_scalar(ours, torch.int64)):
                foreign[id(step)] = step
        if foreign:
            count = one_count(foreign.values())
            for p in tied:
                self.of(home(p))
            self.set(count)
        for p in tied:
            state[p]["step"] = self.of(home(p))
        if tied:
            # A device that parameters have left is not advanced any more: its count would be old.
            used = {home(p) for p in tied}
            if any(device not in used for device in self.by_device):
                known = self.value() if self._is_known() else None
                self.by_device = {d: c for d, c in self.by_device.items() if d in used}
                if known is not None:
                    self._know(known)


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
    if group["momentum"] == 0:
        return
    if buffer is not None and buffer.is_meta and not param.is_meta:
        buffer = None
    if buffer is not None and buffer.layout != torch.strided:  # of torch.optim.SGD, sparse
        buffer = buffer.to_dense()
    if buffer is not None and buffer.is_neg():
        buffer = buffer.resolve_neg()
    if buffer is not None and (buffer.dtype, buffer.shape) != (param.dtype, param.shape):
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


def copy_of_count(step: Tensor) -> Tensor:
    """Return a copy of a step count, on its device.

    Raises:
        TypeError: Its memory is gone.
    """
    if not has_memory(step):
        raise TypeError(
            f"the step count in the state is a {step.dtype} tensor of shape {tuple(step.shape)} "
            "whose memory is gone: set steps_applied"
        )
    return step.clone()


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
