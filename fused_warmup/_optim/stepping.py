"""The step of every optimizer of this package: one native call, where nothing else is to be done.

How a step travels: `FusedOptimizer.step` -> ``HostStep.run_alone`` (csrc/host/host_step.cpp), or
where more than the step is to be done or something has changed, `Plan.run` (_step/plan.py) -> a
part's ``prepare`` and ``launch`` (csrc/host/host_plan.cpp and csrc/cpu/plan.cpp, or
_backend/reference.py) -> ``sgd_update`` (csrc/math/sgd.h) for each element, at the rate of
``schedule_factor`` (csrc/math/schedule.h).
"""

from collections.abc import Callable
from typing import Any, TypeVar, overload

import torch
from torch import Tensor
from torch.autograd import _profiler_enabled as profiler_enabled  # type: ignore[attr-defined]
from torch.compiler import is_dynamo_compiling
from torch.optim import optimizer as torch_optimizer

from .._backend import require
from .._groups import options
from .._groups.values import check_flag, check_scalar
from .._step.plan import Plan
from . import hooks
from .base import BaseOptimizer

Loss = TypeVar("Loss")
"""What a closure returns, and so does the step: a tensor or a number."""


class FusedOptimizer(BaseOptimizer):
    """An optimizer whose step is one launch a device, or two that belong together.

    The base of `fused_warmup.SGD` and `fused_warmup.LARS`; not made by itself.

    Args:
        params: See `SGD`.
        defaults: What groups hold that set nothing themselves.
        backend: See `SGD`, like the two that follow.
        unscale: Whether the step unscales gradients.
        write_grads: Whether it leaves them so.
    """

    grad_scale: Tensor | None
    found_inf: Tensor | None

    def __init__(
        self,
        params: Any,
        defaults: dict[str, Any],
        *,
        backend: str | None,
        unscale: bool,
        write_grads: bool,
    ) -> None:
        check_flag("unscale", unscale)
        check_flag("write_grads", write_grads)
        if backend is not None:
            require(backend)
        self.backend = backend
        self._step_supports_amp_scaling = unscale
        self.write_grads = write_grads
        self._reset_caches()
        super().__init__(params, defaults)

    # -- the step --------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...
    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Perform one step.

        Args:
            closure: Re-evaluates the model and returns the loss.

        Returns:
            What ``closure`` returned, or None.

        Raises:
            TypeError: A gradient of a dtype or layout that the backend cannot use, or a parameter
                whose dtype changed after its first step.
            ValueError: A rate that is negative or not finite, another option out of range, or a
                gradient of another shape or device. Nothing has been updated in either case.
        """
        # Most steps are this one call. Dynamo traces the rest, and never sees the native step.
        if not is_dynamo_compiling() and closure is None:
            host_step = self._host_step
            if host_step is not None and host_step.run_alone(self):
                return None
        # torch wraps a class's `step` to run hooks, at a price above the whole fused step; `hooked`
        # below keeps it from doing so here.
        if (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or profiler_enabled()
        ):
            args = () if closure is None else (closure,)
            return hooks.run(FusedOptimizer._step, self, *args)  # type: ignore[no-any-return]
        if closure is None:
            self._update()
            return None
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]
    _hooks_run = False  # whether a step that calls this one runs the hooks
    profile_hook_step = staticmethod(hooks.once)  # type: ignore[assignment]

    def _step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _update(self) -> None:
        attributes = self.__dict__
        with self._lock:  # threads that share an optimizer step one after the other
            if self._is_updating:
                raise RuntimeError(
                    "step() was called from inside the same optimizer's step(): take the call out "
                    "of the gradient's property, the hook on a tensor or the __del__ that makes it"
                )
            try:
                self._is_updating = True  # in here: a debugger may end any line with an exception
                self._update_alone(attributes.get("grad_scale"), attributes.get("found_inf"))
            finally:
                self._is_updating = False

    def _update_alone(self, grad_scale: Any, found_inf: Any) -> None:
        groups = self.param_groups
        if groups and groups[0].get("lr") is not self._two_rates.seen:
            self._two_rates.look(self, groups[0].get("lr"))
        if self._in_backward is not None and self._in_backward.finish(grad_scale, found_inf):
            return
        if self._clip is not None:
            grad_scale = self._clip.times(grad_scale)
        if found_inf is not None and not isinstance(found_inf, Tensor):
            # GradScaler sums over devices and gives the int 0 where no gradient was seen at all.
            check_scalar("found_inf", found_inf)
            if found_inf != 0:
                self._clip = None
                return
            found_inf = None
        step = (self.state, self.param_groups, grad_scale, found_inf, self.write_grads)
        if self._starting.is_unsure:
            self._settle_averages()
        if self._plan is None or not self._plan.run(*step):
            self._step_after_a_change(*step)
        self._clip = None

    def _step_after_a_change(self, *step: Any) -> None:
        if self._plan is not None and self._plan.run_carefully(*step):
            return
        self._forget_plan()
        self._complete_state()
        *_, found_inf, _ = step
        before = self._starting.count_before(found_inf, self._counters.by_device.values())
        plan = self._plan = Plan(
            self.state,
            self.param_groups,
            self._counters,
            self._lr,
            self.backend,
            measures=self._measures,
            waiting=self._starting.waiting(),
        )
        # The next step finds out first whether this one has started averages.
        self._host_step = plan.host_step if before is None else None
        if not plan.run_carefully(*step):
            raise RuntimeError(
                "a parameter, its gradient or its state changed while the step was being made, and "
                "nothing has been updated: do not change them from signal handlers, __del__ or "
                "other threads during step()"
            )
        params = (p for group in self.param_groups for p in group["params"])
        self._starting.note_launch(params, before)

    def update_captured(self) -> None:
        """Let steps recorded in CUDA graphs use the groups' present options at their next replay.

        The step count, AMP's scalars, the schedules and a tensor lr are read on the device at each
        replay. What is a plain number in a group (``lr``, ``momentum``, ``weight_decay``, ...) was
        copied there at capture: after changing one, call this, on the stream of the replays. Which
        schedules a group has cannot change in a captured step.

        Raises:
            TypeError: An option of the wrong type.
            ValueError: One out of range.
        """
        for group in self.param_groups:
            options.check(group)
        with self._lock:
            for plan in self._plans():
                plan.update_captured(self.param_groups)
