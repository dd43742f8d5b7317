"""The plans of an optimizer: that of its next step, and those that only CUDA graphs hold."""

from typing import Any, Protocol

import torch
from torch.optim import Optimizer

from .._step.plan import Plan


class UpdatesEarlier(Protocol):
    """What has updated parameters before the step; see `distributed.StepInBackward`."""

    def finish(self, grad_scale: Any, found_inf: Any) -> bool:
        """Count the step; False: gradients are left to update."""

    def plans(self) -> list[Plan]:
        """Return the plans of its updates."""


class HoldsPlans(Optimizer):
    """An optimizer that keeps the plan of its step, and gives it up where something has changed.

    The base of `CountedOptimizer`; not made by itself.
    """

    def _reset_plans(self) -> None:
        self._plan: Plan | None = None
        self._host_step: Any = None  # the plan's, within one attribute's reach
        self._captured: list[Plan] = []
        self._in_backward: UpdatesEarlier | None = None

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _forget_plan(self) -> None:
        self._keep_if_captured(self._plan)
        self._plan = self._host_step = None

    def _keep_if_captured(self, plan: Plan | None) -> None:
        """Keep a plan that is given up, if a CUDA graph holds a launch of it."""
        if plan is not None and plan.is_captured:
            self._held_by_graphs().append(plan)

    def _held_by_graphs(self) -> list[Plan]:
        """Plans that were given up, but for graphs. Those whose graphs are gone are dropped."""
        self._captured = [plan for plan in self._captured if plan.is_captured]
        return self._captured

    def _plans(self) -> list[Plan]:
        """All plans, those that only CUDA graphs hold included."""
        plans = [*self._held_by_graphs()]
        if self._plan is not None:
            plans.append(self._plan)
        return plans if self._in_backward is None else [*plans, *self._in_backward.plans()]

    def _has_graphs(self) -> bool:
        """Whether a CUDA graph holds addresses of this optimizer's state."""
        return any(plan.is_captured for plan in self._plans())
