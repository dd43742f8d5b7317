"""What an optimizer of this package keeps: groups with schedules, and state with a step count.

`base.py` adds what users call, `stepping.py` the step.
"""

import operator
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from .._groups import options
from .._groups.unknown import warn_of_unknown
from .._step.counters import MAX_STEPS, Counters, home, making_state
from .._step.routing import check_parameter
from .._tensors.memory import has_memory
from .checkpoints.resuming import Given, check_schedules
from .clip import Clip
from .last_rates import refresh
from .late_groups import inherit, warn_if_left_out
from .plans import HoldsPlans
from .starting import Starting
from .state import ensure_state, settled
from .two_rates import TwoRates
from .unscheduled import SetAside
from .wide_state import reread_masters


class CountedOptimizer(HoldsPlans):
    """An optimizer whose groups carry schedules and whose state carries the count of its steps.

    The base of `BaseOptimizer`; not made by itself.
    """

    backend: str | None
    write_grads: bool
    # What GradScaler asks; on the class too, for objects that unpickling makes without __init__.
    _step_supports_amp_scaling = True
    _group_defaults: Mapping[str, Any] = options.DEFAULTS  # what older pickles may lack
    _measures = False  # whether a step needs norms, see `Plan`
    _set_aside: SetAside | None = None
    _is_swapped = False  # whether a model has the averages for weights
    _built = False  # whether the groups that it is made with are all there

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._built = True
        inherit(self.defaults, self.param_groups, before={})

    def _reset_caches(self) -> None:
        self._reset_plans()
        self._counters = Counters()
        self._lr: dict[torch.device, Tensor] = {}
        self._lock = threading.RLock()  # held while a step is made
        self._is_updating = False
        self._clip: Clip | None = None  # what the next step divides gradients by
        self._given = Given()
        self._starting = Starting()
        self._two_rates = TwoRates()

    # -- groups and state ------------------------------------------------------------------------

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; see torch.optim.Optimizer.add_param_group.

        The dict itself becomes the group, as with torch: whoever keeps it may change it later.

        Raises:
            TypeError: A parameter that the backend cannot update.
            ValueError: An option out of range.
        """
        given = {**param_group}
        group = {**self.defaults, **given}
        options.settle([group])
        options.check_nesterov(group)
        warn_of_unknown(given, self.defaults)
        if self._built:
            warn_if_left_out(given, self.defaults, self.param_groups)
        super().add_param_group(param_group)
        param_group.update({name: group[name] for name in options.SCHEDULES})
        added = self.param_groups[-1]
        try:
            for p in added["params"]:
                check_parameter(p, added, self.backend)
            with making_state():
                for p in added["params"]:
                    if p.requires_grad:
                        self._ensure_state(p, added)
        except Exception:
            self.param_groups.pop()
            for p in added["params"]:
                self.state.pop(p, None)
            raise
        if self._set_aside is not None:
            self._set_aside.note(added, given)
        self._forget_plan()
        self._two_rates.look_at_new_group(given, added)

    def _ensure_state(self, p: Tensor, group: Mapping[str, Any]) -> None:
        if is_lazy(p):  # a lazy module's, without a shape until its first forward
            return
        before = self.state[p].get("ema") if p in self.state else None
        ensure_state(self.state, p, group)
        ema = self.state[p].get("ema")
        if ema is not before and (before is None or before.is_meta):
            self._starting.add(p)
        if "step" not in self.state[p]:
            self.state[p]["step"] = self._counters.of(home(p))

    def _complete_state(self, *, to_launch: bool = True) -> None:
        """Bring groups, state and counters into the form that plans read.

        Args:
            to_launch: Whether launches come next, which move the count.

        Raises:
            RuntimeError: Launches come next, and a model has its averages for weights.
        """
        if to_launch:
            self._refuse_swapped()
        with making_state():
            options.settle(self.param_groups)
            for group in self.param_groups:
                for p in group["params"]:
                    if p in self.state or p.requires_grad or p.grad is not None:
                        self._ensure_state(p, group)
            everything = [p for group in self.param_groups for p in group["params"]]
            self._counters.tie(self.state, everything)
            self._refresh_lr(keep=True)
            if to_launch:
                reread_masters(self.state, everything)
                self._start_averages()
        if to_launch:
            self._counters.leave_to_kernels()

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _refresh_lr(self, keep: bool = False) -> None:
        """Fill the last-rate tensors from the count and the groups; see `last_rates.refresh`."""
        refresh(self._lr, self.param_groups, self._counters, keep=keep)

    def _start_averages(self) -> None:
        """Let averages that no step has moved yet be their parameters."""
        self._settle_averages()
        self._starting.follow(self.state)

    def _settle_averages(self) -> None:
        """Find out whether the last step, which AMP may have skipped, has started averages.

        This waits for the device, at the steps after those skipped ones and the first of a run.
        """
        if not self._starting.is_unsure:
            return
        count = next(iter(self._counters.by_device.values()))
        if count.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        if self._starting.settle(count):
            plan = self._plan
            self._host_step = None if plan is None else plan.host_step
        else:
            self._forget_plan()  # so that the next step begins with the model of then

    def _refuse_swapped(self) -> None:
        if self._is_swapped:
            raise RuntimeError(
                "a step inside swap_averaged would train the averages: leave the block before"
            )

    # Dynamo of torch 2.11 cannot trace that an attribute of an optimizer is set, and raises.
    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _clip_next(self, clip: Clip | None) -> None:
        self._clip = clip

    # -- what the step did -----------------------------------------------------------------------

    @property
    def steps_applied(self) -> int:
        """Updates applied so far (``t``, the step that comes next). Reading it synchronises.

        Set it to start a schedule in the middle, after loading a torch.optim.SGD checkpoint, say.
        """
        self._counters.tie(self.state, [p for g in self.param_groups for p in g["params"]])
        return self._counters.value()

    @steps_applied.setter
    def steps_applied(self, value: int) -> None:
        try:
            count = -1 if isinstance(value, bool) else operator.index(value)
        except TypeError:
            count = -1
        if not 0 <= count <= MAX_STEPS:
            bound = "at least 0" if count < 0 else f"at most {MAX_STEPS}"
            raise ValueError(
                f"steps_applied={value!r} must be an int of {bound}: pass the number of updates "
                "that were applied before"
            )
        check_schedules(self.param_groups, count)
        self._settle_averages()
        if not self._counters.by_device:
            self._counters.of(home(self.param_groups[0]["params"][0]))
        self._counters.set(count)
        with making_state():
            for p, entry in self.state.items():
                if "step" in entry:
                    entry["step"] = self._counters.of(home(p))
                # A mark without memory is told anew from the momentum, by the next step.
                if "first_step" in entry and has_memory(entry["first_step"]):
                    entry["first_step"].copy_(settled(entry["first_step"]))
        self._refresh_lr()

    def _take_over_count(self) -> None:
        """Take over a count that somebody has put into the state, before it is read there."""
        first = next(iter(self.state), None)
        ours = self._counters.by_device
        if first is not None and self.state[first].get("step") is not ours.get(home(first)):
            self.steps_applied  # noqa: B018

    def lr_tensor(self) -> Tensor:
        """Return the rate that the last applied step used, on the device and without a sync.

        Returns:
            float64, one element a group, on the device of the first parameter. The tensor is the
            live one that the kernel writes. Before the first step: the rate of the first step.
        """
        self._refresh_lr(keep=True)
        for group in self.param_groups:
            for p in group["params"]:
                if home(p) in self._lr:
                    return self._lr[home(p)]
        return next(iter(self._lr.values()))

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def reread_masters(self) -> None:
        """Let float32 masters follow parameters that were written to.

        The next step does so by itself where a tensor counts its writes or was replaced: after
        ``load_state_dict``, ``p.copy_`` under ``no_grad``, ``p.data = other``. Call this after
        ``p.data.copy_(other)``, and before replays of a CUDA graph. Elements that are their
        master's rounding keep their master.
        """
        reread_masters(self.state, [p for g in self.param_groups for p in g["params"]])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients; see torch.optim.Optimizer.zero_grad."""
        if self._clip is not None:
            self._clip_next(None)
        super().zero_grad(set_to_none)

    # -- pickle and deepcopy ---------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        self._settle_averages()
        own = ("backend", "write_grads", "_step_supports_amp_scaling")
        attributes = {name: getattr(self, name) for name in own}
        return {**super().__getstate__(), **attributes, "_starting": set(self._starting)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Called by pickle and deepcopy on a bare object, and by load_state_dict on a live one.
        bare = "state" not in self.__dict__
        if bare:
            self.backend, self.write_grads = None, True
            self._reset_caches()
        for group in state["param_groups"]:
            for name, value in self._group_defaults.items():
                group.setdefault(name, value)
        super().__setstate__(state)
        if bare:
            self._starting = Starting(state.get("_starting", ()))
            self.defaults = {**self._group_defaults, **self.defaults}
        self._forget_plan()
        self._complete_state(to_launch=False)
        self._refresh_lr()
        if bare:
            self._built = True
            inherit(self.defaults, self.param_groups, before={})
