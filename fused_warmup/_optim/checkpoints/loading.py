"""From a state dict to the state that an optimizer takes over: all made beforehand, then moved in.

`StateReader.read` changes nothing that the optimizer has. What it returns holds the optimizer's own
tensors wherever they can take the loaded values, and `Copies` has the copies that fill these. What
can fail has failed by then: a checkpoint that is refused has changed nothing.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from ..._backend.extras import widened
from ..._backend.reference import FIRST_STEP_BEFORE, FIRST_STEP_NEVER
from ..._groups.names import describe
from ..._step.counters import Counters, State, home
from ..._tensors.memory import has_memory, on_host
from ..._tensors.shards import local_of, split_as
from ..state import ensure_state, first_step_mark, settled
from ..wide_state import NAMES, momentum_dtype, wants
from .copies import Copies, can_hold
from .structure import REMEDY, Group, keys_of


class StateReader:
    """Reads the state of a state dict whose structure and groups are checked.

    Args:
        own: The optimizer's present state.
        groups: Its groups with the loaded options.
        counters: Its counters.
        count: The loaded count, of `read_count`.
        copies: Where the copies go that the state waits for.
        starting: Parameters whose present average starts with the next step.
        keep_all: Keep tensors, too, that the loaded options have no use for: captured graphs may.
    """

    def __init__(
        self,
        own: State,
        groups: Sequence[Group],
        counters: Counters,
        count: int | None,
        copies: Copies,
        *,
        starting: Container[Tensor],
        keep_all: bool,
    ) -> None:
        self._own, self._counters, self._count, self._copies = own, counters, count, copies
        self._keep_all, self._started_before = keep_all, starting
        self.starting: set[Tensor] = set()  # parameters whose average starts with the next step
        self._params = [p for group in groups for p in group["params"]]
        self._group_of = {p: group for group in groups for p in group["params"]}
        self._live = {memory_of(value) for entry in own.values() for value in tensors_in(entry)}

    def read(self, state_dict: Mapping[str, Any]) -> State:
        """Return the new state, complete.

        It has the order of the state dict, so that it comes out as it went in. State that belongs
        to no parameter stays what it is.

        Raises:
            TypeError: A parameter's state is of the wrong type.
            ValueError: A tensor is not of its parameter's shape or holds no data.
        """
        param_of = dict(zip(keys_of(state_dict), self._params, strict=True))
        loaded = {param_of.get(key, key): entry for key, entry in state_dict["state"].items()}
        for p, group in self._group_of.items():
            if not isinstance(loaded.setdefault(p, {}), Mapping):
                raise TypeError(
                    f"the loaded state of {describe(p, group)} is a {type(loaded[p]).__name__}, it "
                    f"must be a dict: {REMEDY}"
                )
        state: State = {}
        for p, entry in loaded.items():
            if p not in self._group_of:
                state[p] = entry
                continue
            group = self._group_of[p]
            if is_lazy(p):  # what its shape will be, the step after its first forward looks at
                if entry:
                    state[p] = {name: _cast(p, value) for name, value in entry.items()}
                    state[p]["step"] = self._counters.of(home(p))
            elif entry or self._own.get(p) or p.requires_grad or p.grad is not None:
                state[p] = self._entry(p, group, entry)
                ensure_state(state, p, group)
                state[p]["step"] = self._counters.of(home(p))
        return state

    def _entry(self, p: Tensor, group: Group, loaded: Mapping[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {}
        own = self._own.get(p, {})
        buffer, mark = loaded.get("momentum_buffer"), loaded.get("first_step")
        for name, value in loaded.items():
            if name == "step":
                entry[name] = None  # its place
            elif name not in ("momentum_buffer", "first_step", *NAMES):
                entry[name] = _cast(p, value)
            elif value is not None:
                _check(name, value, p, group)
                if name == "first_step":
                    entry[name] = self._mark(p, value)
                else:
                    entry[name] = self._tensor(name, p, group, value)
        uses = group["momentum"] != 0
        if buffer is None and "momentum_buffer" in own and (uses or self._keep_all):
            entry["momentum_buffer"] = self._tensor("momentum_buffer", p, group, None)
        for name in NAMES:
            # A checkpoint without one, torch's for example: it starts from the parameter again.
            if entry.get(name) is None and wants(name, p, group):
                entry[name] = self._tensor(name, p, group, p)
                if name == "ema":
                    self.starting.add(p)
        if p in self._started_before and _is_copy(loaded.get("ema"), p):
            self.starting.add(p)  # Accelerate loads what it saved, and the model may come later
        uses = uses and group["dampening"] != 0
        if mark is None and (uses or ("first_step" in own and self._keep_all)):
            entry["first_step"] = self._mark(p, _mark_of(loaded))
        return entry

    def _tensor(self, name: str, p: Tensor, group: Group, value: Tensor | None) -> Tensor:
        """Return the tensor that is to hold some state; None: a momentum no step has filled."""
        kept = self._own.get(p, {}).get(name)
        dtype = momentum_dtype(p, group) if name == "momentum_buffer" else widened(p.dtype)
        if value is not None and value is not kept:
            if value.layout != torch.strided:  # torch.optim.SGD's under sparse gradients
                value = value.to_dense()
            value = split_as(value.detach().to(device=p.device, dtype=dtype), p)
            if memory_of(value) in self._live:  # it may be another's, which is filled before
                value = value.clone()
        if can_hold(kept, p, dtype):
            return self._copies.into(kept, value)
        new = torch.zeros_like(
            p, dtype=dtype, memory_format=torch.preserve_format, requires_grad=False
        )
        return new if value is None else new.copy_(value)

    def _mark(self, p: Tensor, value: Tensor) -> Tensor:
        """Return the tensor that is to hold a first-step mark."""
        counter, kept = self._counters.of(home(p)), self._own.get(p, {}).get("first_step")
        value = local_of(value.detach()).reshape(()).to(counter.device)
        value = settled(value, self._count or 0)
        return self._copies.into(kept, value) if can_hold(kept, counter) else value


def _is_copy(ema: Any, p: Tensor) -> bool:
    """Tell whether an average is its parameter still."""
    if not isinstance(ema, Tensor) or p.is_meta or not has_memory(p):
        return False
    ours = local_of(split_as(ema.detach().to(device=p.device, dtype=widened(p.dtype)), p))
    return bool(on_host((ours == local_of(p).detach()).all(), False))


def _check(name: str, value: Any, p: Tensor, group: Group) -> None:
    who = f"the loaded {name} of {describe(p, group)}"
    if not isinstance(value, Tensor):
        raise TypeError(f"{who} is a {type(value).__name__}, it must be a tensor: {REMEDY}")
    if value.is_complex() and not p.is_complex():
        raise TypeError(
            f"{who} is {value.dtype} and the parameter {p.dtype}, both must be real: load a "
            "checkpoint of the same model"
        )
    if name == "first_step" and value.numel() != 1:
        raise ValueError(f"{who} has shape {tuple(value.shape)}, it must be one element: {REMEDY}")
    if name in ("momentum_buffer", *NAMES) and value.shape != p.shape:
        raise ValueError(
            f"{who} has shape {tuple(value.shape)}, the parameter has {tuple(p.shape)}: load a "
            "checkpoint of the same model"
        )
    if value.is_meta and not p.is_meta:
        raise ValueError(
            f"{who} is on meta and holds nothing, the parameter is on {p.device}: save the state "
            "of an optimizer whose model has memory"
        )


def _mark_of(loaded: Mapping[str, Any]) -> Tensor:
    """Return the mark of a parameter whose loaded state has none."""
    buffer = loaded.get("momentum_buffer")
    if buffer is not None and loaded.get("step") is not None:
        return first_step_mark(buffer if buffer.layout == torch.strided else buffer.to_dense())
    # torch.optim.SGD's has no momentum before a parameter's first step.
    mark = FIRST_STEP_NEVER if buffer is None else FIRST_STEP_BEFORE
    return torch.tensor(mark, dtype=torch.int64, device="cpu")


def _cast(p: Tensor, value: Any) -> Any:
    """Return a copy of state that only others know, as torch's loader casts it."""
    if isinstance(value, Tensor):
        dtype = p.dtype if p.is_floating_point() else value.dtype
        return value.detach().to(device=p.device, dtype=dtype, copy=True)
    if isinstance(value, Mapping):
        return {key: _cast(p, each) for key, each in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(_cast(p, each) for each in value)
    return value


def tensors_in(entry: Any) -> Iterator[Tensor]:
    """Yield the tensors of a parameter's state."""
    for value in entry.values() if isinstance(entry, Mapping) else ():
        if isinstance(value, Tensor):
            yield value


def memory_of(tensor: Tensor) -> int:
    """Name the memory that a tensor lives in, or a tensor that has no one memory."""
    try:
        return int(local_of(tensor).untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return id(tensor)
