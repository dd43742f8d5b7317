"""What an attached schedule does around a step of the optimizer."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..._step.counters import Counters
from .groups import Groups
from .takes import remedy


class Step:
    """The step that is under way, if one is.

    Its beginning launches `Rates`, which writes the rate of the step into every group and counts
    the step where ``found_inf`` lets it happen: both on the device, so that a CUDA graph captures
    them with the step. Its end only notes that it came. One that raised is taken back when the next
    begins, or when somebody asks.
    """

    def __init__(self, optimizer: Optimizer, groups: Groups, counters: Counters) -> None:
        self._optimizer, self._groups, self._counters = optimizer, groups, counters
        self.is_running = False  # it has been launched and has not come to its end
        self._had_gradients = False  # when it began; some steps and hooks drop them
        self._found_inf: Any = None

    def begin(self, optimizer: Any) -> None:
        """Write the rates of the step, and count it."""
        self.take_back()
        if not self._groups.are_as_left():
            if self._groups.are_in_a_dry_run():
                return
            self._groups.settle()
        if self._groups.give_numbers:
            self._refuse_capture()
        found_inf = getattr(optimizer, "found_inf", None)
        if not isinstance(found_inf, Tensor):
            found_inf = None  # 0 where there was no gradient to look at
        for part in self._groups.parts:
            part.rates.prepare(None if found_inf is None else _on(part.device, found_inf))
        for part in self._groups.parts:
            part.rates.launch(advance=part.counts)
        self._found_inf, self.is_running = found_inf, True
        self._had_gradients = _has_gradients(optimizer)
        if self._groups.change_by_step:
            self._groups.hand_out()

    def end(self, optimizer: Any) -> None:
        """Note that the step came to its end."""
        # A closure makes them in the step.
        if self.is_running and not (self._had_gradients or _has_gradients(optimizer)):
            self.take_back()
        self.forget()

    def forget(self) -> None:
        """Leave the count as it is, whatever became of the step."""
        self.is_running, self._found_inf = False, None

    def take_back(self) -> None:
        """Count the step that is under way no more: it raised, or had nothing to apply."""
        if not self.is_running:
            return
        with torch.no_grad():
            for counter in self._counters.by_device.values():
                counter.sub_(self.pending(counter.device))
        self.forget()

    def pending(self, device: torch.device) -> Any:
        """Return what the launch of the step under way added to the count; 0 if there is none."""
        if not self.is_running:
            return 0
        if self._found_inf is None:
            return 1
        return (self._found_inf == 0).to(device=device, dtype=torch.int64).reshape(())

    def _refuse_capture(self) -> None:
        if torch.cuda._initialized and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                f"{type(self._optimizer).__name__} gets its rates as numbers, of which a CUDA "
                f"graph would replay that of its capture: {remedy(self._optimizer)}"
            )


def _has_gradients(optimizer: Optimizer) -> bool:
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                return True
    return False


def _on(device: torch.device, found_inf: Tensor) -> Tensor:
    return found_inf.detach().to(device=device, dtype=torch.float32, non_blocking=True)
