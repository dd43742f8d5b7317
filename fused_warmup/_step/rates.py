"""Learning rates without parameters: one launch works out those of some groups and moves the count.

It is the launch of a step, given no tensor to update, so that every backend has it already.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _backend as kernels
from .counters import making_state
from .tracks import Tracks

ROOM = 64
"""Groups that may be added before the rates move to other addresses."""
UNUSED = {
    "weight_decay": 0.0,
    "momentum": 0.0,
    "dampening": 0.0,
    "nesterov": False,
    "maximize": False,
    "differentiable": False,
}
"""What a plan reads of a group beside its rate."""


class Rates:
    """The rates of the groups that one device serves, at addresses that stay.

    Args:
        device: Where they are worked out.
        rounds: Whether somebody wants them in the form that torch's kernels read there.
        count: The device's step counter.

    Attributes:
        exact: The rates, float64, one element a group.
        lr: The rates as tensors of no dimensions. torch's kernels read a float32 on a GPU, and any
            number on the CPU.
        copies: Whether torch copies the rates there, which autograd counts; else the launch writes
            them.
    """

    exact: Tensor
    lr: list[Tensor]

    def __init__(self, device: torch.device, rounds: bool, count: Tensor) -> None:
        self._device, self._rounds, self._count = device, rounds, count
        self._dtype = torch.float64 if device.type == "cpu" else torch.float32
        self._backend = kernels.kernel_of(device) or "reference"
        # Others leave the rates in float64 only, which is then copied.
        self.copies = rounds and self._backend not in ("cpu", "cuda")
        self._plan: Any = None
        self._captured: list[tuple[Any, int]] = []  # plans that only CUDA graphs hold
        self._groups: list[dict[str, Any]] = []
        self._are_read = False  # whether the plan knows the groups as they are
        self._make_room(ROOM)

    def _make_room(self, n: int) -> None:
        with making_state():
            self._all_exact = torch.zeros(n, dtype=torch.float64, device=self._device)
            self._all_lr = torch.zeros(n, dtype=self._dtype, device=self._device)
            self._each_lr = [self._all_lr[i] for i in range(n)]

    def follow(self, bases: Sequence[float], schedules: Sequence[Mapping[str, Any] | None]) -> None:
        """Set each group's base rate and schedule, and work out the rates of step ``t``."""
        n = len(bases)
        if n > len(self._each_lr):
            self._make_room(2 * n)
        if self._plan is not None and getattr(self._plan, "n_captured", 0) > 0:
            self._captured.append((self._plan, len(self._groups)))
        tracks = Tracks([{"schedule": each, "momentum_schedule": None} for each in schedules])
        self.exact, self._rounded = self._all_exact[:n], self._all_lr[:n]
        self.lr = self._each_lr[:n]
        self._plan = kernels.make_plan(
            self._backend,
            params=[],
            momentum_buffers=[],
            first_steps=[],
            group_of=[],
            schedules=tracks.schedules,
            schedule_of=tracks.lr,
            momentum_schedule_of=tracks.momentum,
            t=self._count,
            lr=self.exact,
        )
        if self._rounds and not self.copies:
            self._plan.give_rates_to(self._rounded)
        self._rebase(bases)
        self.prepare(None)
        self.launch(advance=False)

    def _rebase(self, bases: Sequence[float]) -> None:
        self._are_read = False
        self._groups = [{**UNUSED, "lr": base} for base in bases]

    def update_captured(self, bases: Sequence[float]) -> None:
        """Set the base rates, for launches that CUDA graphs hold, too."""
        self._rebase(bases)
        for plan, n in [*self._captured, (self._plan, len(bases))]:
            if getattr(plan, "n_captured", 0) > 0:
                plan.update_captured(self._groups[:n])

    def prepare(self, found_inf: Tensor | None) -> None:
        """Read what the launch needs, and touch nothing.

        Raises:
            RuntimeError: The count is not as it was made.
        """
        groups = None if self._are_read else self._groups
        if not self._plan.prepare(groups, [], None, found_inf, False):
            raise RuntimeError(
                f"the step count on {self._device} is {self._count.dtype} of shape "
                f"{tuple(self._count.shape)}, it must be the int64 that attach made: leave "
                "group['steps_applied'] as it is, or set the handle's steps_applied"
            )
        self._are_read = self._backend != "reference"

    def launch(self, advance: bool = True) -> None:
        """Write the rates of the step that comes, and count it where ``advance`` says so.

        With a ``found_inf`` that is not 0 neither happens.
        """
        self._plan.launch(advance)
        if self.copies:
            self._rounded.copy_(self.exact)
