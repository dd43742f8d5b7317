"""The optimizer: torch.optim.SGD's contract over one fused launch a step and device.

How a step travels: `SGD.step` -> `Plan.run` (plan.py) -> a part's ``prepare`` and ``launch``
(csrc/host_plan.cpp and csrc/cpu.cpp, or reference.py) -> ``sgd_update`` (csrc/sgd.h) for each
element, at the rate of ``schedule_factor`` (csrc/schedule.h).
"""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, overload

import torch
from torch import Tensor
from torch.autograd import _profiler_enabled as profiler_enabled  # type: ignore[attr-defined]
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from . import options
from .backend import require
from .plan import Plan
from .routing import check_parameter
from .schedules import Schedule
from .state import (
    Counters,
    adopt,
    check_loadable,
    ensure_state,
    home,
    settled,
    with_plain_steps,
    without_live_counters,
)


class SGD(Optimizer):
    r"""Stochastic gradient descent whose kernel computes the learning rate itself.

    A drop-in for torch.optim.SGD. One launch a step and device applies weight decay, momentum and
    the update to every parameter, at the rate ``group["lr"] * schedule(t)``, where ``t`` counts the
    updates *applied* so far and lives on the device: a step that AMP skips does not advance the
    schedule, and there is no scheduler to step. With ``schedule=None`` the trajectory is
    torch.optim.SGD's own.

    For a parameter :math:`p` with gradient :math:`g` (negated under ``maximize``) a step computes

    .. math::
        d = g + \lambda p, \quad b \leftarrow \mu b + (1 - \tau) d, \quad
        p \leftarrow p - \eta_t \, (d + \mu b \text{ if nesterov else } b)

    with :math:`b \leftarrow d` on the parameter's own first applied step. Elements are computed in
    float32 (float64 for float64 parameters), the rate in float64.

    Args:
        params: Tensors, named tensors, or dicts that define groups; a group may set any of the
            options below but ``foreach``, ``fused`` and ``backend``, and ``schedule`` too.
        lr: The base learning rate, a float or a tensor of one element, which is read on its device
            each step.
        momentum: Momentum factor :math:`\mu`.
        dampening: Dampening :math:`\tau` of the gradient's part in the momentum.
        weight_decay: L2 penalty :math:`\lambda`.
        nesterov: Nesterov momentum; needs a momentum and no dampening.
        maximize: Ascend instead of descend.
        foreach: Accepted for torch.optim.SGD's sake; every step is fused.
        differentiable: Let autograd run through the step (by the reference backend).
        fused: Accepted for torch.optim.SGD's sake; every step is fused.
        schedule: The factor on ``lr`` at each step; None: always 1. Groups hold it as plain data
            (`Schedule.to_dict`), so checkpoints load under ``weights_only=True``.
        backend: ``"cuda"``, ``"triton"``, ``"cpu"`` or ``"reference"`` for all parameters; None
            lets each parameter's device, dtype and layout decide.
        unscale: Whether the step itself unscales gradients for `torch.amp.GradScaler`, without a
            host sync. False hands that back to the scaler, as Lightning's gradient clipping wants.
        write_grads: Whether gradients that the step unscales are left unscaled in ``.grad``, as
            torch's fused optimizers leave them. False leaves them scaled and saves writing them.

    Raises:
        TypeError: An option of the wrong type, or a parameter that ``backend`` cannot update.
        ValueError: An option out of range; the message says which values are good.
        RuntimeError: The backend cannot run here, with the original error as its cause.

    Example:
        >>> import torch, fused_warmup
        >>> from fused_warmup.schedules import cosine, linear_warmup
        >>> model = torch.nn.Linear(3, 1)
        >>> schedule = linear_warmup(4).then(cosine(6))
        >>> opt = fused_warmup.SGD(model.parameters(), lr=0.8, momentum=0.9, schedule=schedule)
        >>> for _ in range(3):
        ...     opt.zero_grad()
        ...     model(torch.ones(2, 3)).sum().backward()
        ...     opt.step()
        >>> opt.steps_applied, opt.get_last_lr()
        (3, [0.4])
    """

    grad_scale: Tensor | None
    found_inf: Tensor | None
    # What GradScaler asks; on the class too, for objects that unpickling makes without __init__.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        schedule: Schedule | Mapping[str, Any] | None = None,
        backend: str | None = None,
        unscale: bool = True,
        write_grads: bool = True,
    ) -> None:
        if fused and differentiable:
            raise RuntimeError("`fused` does not support `differentiable`: pass one of the two")
        if fused and foreach:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together: pass one of them")
        if backend is not None:
            require(backend)
        if differentiable and backend not in (None, "reference"):
            raise ValueError(
                f"differentiable=True with backend={backend!r}: only the reference backend can be "
                "differentiated; pass backend=None or backend='reference'"
            )
        self.backend = backend
        self._step_supports_amp_scaling = unscale
        self.write_grads = write_grads
        self._reset_caches()
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
            "schedule": options.plain_schedule(schedule),
        }
        options.check(defaults)
        super().__init__(params, defaults)

    def _reset_caches(self) -> None:
        self._plan: Plan | None = None
        self._captured: list[Plan] = []
        self._counters = Counters()
        self._lr: dict[torch.device, Tensor] = {}

    # -- groups and state ------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; see torch.optim.Optimizer.add_param_group.

        Raises:
            TypeError: A parameter that the backend cannot update.
            ValueError: An option out of range.
        """
        group = {**self.defaults, **param_group}
        group["schedule"] = options.plain_schedule(group["schedule"])
        options.check(group)
        super().add_param_group({**param_group, "schedule": group["schedule"]})
        added = self.param_groups[-1]
        try:
            for p in added["params"]:
                check_parameter(p, added, self.backend)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        for p in added["params"]:
            if p.requires_grad:
                self._ensure_state(p, added)
        self._forget_plan()
        self._refresh_lr()

    def _ensure_state(self, p: Tensor, group: Mapping[str, Any]) -> None:
        ensure_state(self.state, p, group)
        if "step" not in self.state[p]:
            self.state[p]["step"] = self._counters.of(home(p))

    @torch.no_grad()
    def _complete_state(self) -> None:
        for group in self.param_groups:
            group["schedule"] = options.plain_schedule(group["schedule"])
            options.check(group)
            for p in group["params"]:
                if p in self.state or p.requires_grad or p.grad is not None:
                    self._ensure_state(p, group)
        everything = [p for group in self.param_groups for p in group["params"]]
        self._counters.tie(self.state, everything)
        used = {home(p) for p in everything if p in self.state}
        if any(d not in self._lr or len(self._lr[d]) != len(self.param_groups) for d in used):
            self._refresh_lr()

    @torch.no_grad()
    def _refresh_lr(self) -> None:
        """Fill the last-rate tensors, in place where they exist, from the count and the groups."""
        last = max(self._counters.value() - 1, 0)
        rates = [options.rate(group, last) for group in self.param_groups]
        devices = {*self._counters.by_device} or {torch.device("cpu")}
        for device in devices:
            values = torch.stack([r.to(device=device, dtype=torch.float64) for r in rates])
            kept = self._lr.setdefault(device, values)
            self._lr[device] = kept.copy_(values) if kept.shape == values.shape else values

    # -- the step --------------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
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
        # torch wraps a class's `step` to run hooks, at a price above the whole fused step; `hooked`
        # below keeps it from doing so here. A subclass's own `step` is wrapped: it runs the hooks.
        if type(self).step is SGD.step and (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or profiler_enabled()
        ):
            return self._step_with_hooks(*(() if closure is None else (closure,)))
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss

    def _step_with_hooks(self, *args: Any, **kwargs: Any) -> float | None:
        with torch.autograd.profiler.record_function(f"Optimizer.step#{type(self).__name__}.step"):
            for pre_hook in chain(
                torch_optimizer._global_optimizer_pre_hooks.values(),
                self._optimizer_step_pre_hooks.values(),
            ):
                changed = pre_hook(self, (self, *args), kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(
                            f"{pre_hook} must return None or a tuple of (new_args, new_kwargs), "
                            f"but got {changed}."
                        )
                    (_, *args), kwargs = changed  # type: ignore[assignment]
            loss = self._step(*args, **kwargs)
            self._optimizer_step_code()
            for post_hook in chain(
                self._optimizer_step_post_hooks.values(),
                torch_optimizer._global_optimizer_post_hooks.values(),
            ):
                post_hook(self, (self, *args), kwargs)
            return loss

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _update(self) -> None:
        attributes = self.__dict__
        grad_scale, found_inf = attributes.get("grad_scale"), attributes.get("found_inf")
        if found_inf is not None and not isinstance(found_inf, Tensor):
            # GradScaler sums over devices and gives the int 0 where no gradient was seen at all.
            if found_inf != 0:
                return
            found_inf = None
        step = (self.state, self.param_groups, grad_scale, found_inf, self.write_grads)
        if self._plan is None or not self._plan.run(*step):
            self._step_after_a_change(*step)

    def _step_after_a_change(self, *step: Any) -> None:
        if self._plan is not None and self._plan.run_carefully(*step):
            return
        self._forget_plan()
        self._complete_state()
        self._plan = Plan(self.state, self.param_groups, self._counters, self._lr, self.backend)
        if not self._plan.run_carefully(*step):
            raise RuntimeError(
                "a plan made for these parameters does not fit them: please report this with the "
                "optimizer's repr() and the parameters' dtypes, shapes and strides"
            )

    def _forget_plan(self) -> None:
        # The tables that a captured launch reads belong to its plan.
        if self._plan is not None and self._plan.is_captured:
            self._captured.append(self._plan)
        self._plan = None

    def update_captured(self) -> None:
        """Let steps recorded in CUDA graphs use the groups' present options at their next replay.

        The step count, AMP's scalars, the schedule and a tensor lr are read on the device at each
        replay. What is a plain number in a group (``lr``, ``momentum``, ``weight_decay``, ...) was
        copied there at capture: after changing one, call this, on the stream of the replays. Which
        schedule a group has cannot change in a captured step.

        Raises:
            TypeError: An option of the wrong type.
            ValueError: One out of range.
        """
        for group in self.param_groups:
            options.check(group)
        for plan in (*self._captured, *([self._plan] if self._plan is not None else [])):
            plan.update_captured(self.param_groups)

    # -- what the step did -----------------------------------------------------------------------

    @property
    def steps_applied(self) -> int:
        """Updates applied so far: ``t``, the step that comes next. Reading it synchronises.

        Set it to start a schedule in the middle, after loading a torch.optim.SGD checkpoint, say.
        """
        self._counters.tie(self.state, [p for g in self.param_groups for p in g["params"]])
        return self._counters.value()

    @steps_applied.setter
    def steps_applied(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(
                f"steps_applied={value!r} must be an int of at least 0: pass the number of updates "
                "that were applied before"
            )
        if not self._counters.by_device:
            self._counters.of(home(self.param_groups[0]["params"][0]))
        self._counters.set(value)
        for entry in self.state.values():
            if "first_step" in entry:
                entry["first_step"].copy_(settled(entry["first_step"]))
        self._refresh_lr()

    def lr_tensor(self) -> Tensor:
        """Return the rate that the last applied step used, on the device and without a sync.

        Returns:
            float64, one element a group, on the device of the first parameter. The tensor is the
            live one that the kernel writes. Before the first step: the rate of the first step.
        """
        for group in self.param_groups:
            for p in group["params"]:
                if home(p) in self._lr:
                    return self._lr[home(p)]
        return next(iter(self._lr.values()))

    def get_last_lr(self) -> list[float]:
        """Return the rate that the last applied step used, one float a group.

        Synchronises with the device; `lr_tensor` does not.
        """
        return self.lr_tensor().tolist()

    # -- saving and loading ----------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state in torch.optim.SGD's form, with the step count beside the momentum."""
        state_dict = without_live_counters(super().state_dict())
        groups = [
            {**group, "schedule": options.schedule_text(group["schedule"])}
            for group in state_dict["param_groups"]
        ]
        return {**state_dict, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state dict of this class or of torch.optim.SGD, in place.

        Tensors keep their addresses, so a captured graph stays valid. A state without step counts
        (torch.optim.SGD's) leaves the count as it is, and one without schedules the schedules: set
        `steps_applied` to say where the schedule goes on.

        Raises:
            TypeError: An option of the wrong type.
            ValueError: The groups or shapes are not this optimizer's, an option is out of range, or
                the step counts disagree. Nothing has changed in either case.
        """
        super().load_state_dict(with_plain_steps(state_dict))

    def __getstate__(self) -> dict[str, Any]:
        own = ("backend", "write_grads", "_step_supports_amp_scaling")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Called by pickle and deepcopy on a bare object, and by load_state_dict on a live one.
        own_state, own_groups = self.__dict__.get("state"), self.__dict__.get("param_groups")
        groups = state["param_groups"]
        for i, group in enumerate(groups):
            kept = own_groups[i] if own_groups is not None else {}
            for name, value in options.DEFAULTS.items():
                group.setdefault(name, kept.get(name, value))
        if own_state is None:
            self.backend, self.write_grads = None, True
            self._reset_caches()
        else:
            check_loadable(state["state"], groups)
            adopt(state["state"], own_state, groups)
        super().__setstate__(state)
        self._forget_plan()
        self._complete_state()
        self._refresh_lr()
