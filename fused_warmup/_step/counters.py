"""The step counter: how many updates were applied so far, on each device that holds parameters.

One 0-dim int64 tensor a device counts them. Every parameter on that device holds it as
``state[p]["step"]``, the one key that torch's loader does not cast to the parameter's dtype.
Loaders replace it and ZeRO moves it to the CPU; `Counters.tie` brings the value home and ties all
parameters to the device's own tensor again, whose address a captured graph may hold.
"""

import operator
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .._backend.reference import count_step
from .._tensors.memory import has_memory, has_number, is_scalar, on_host
from .._tensors.shards import local_of

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
