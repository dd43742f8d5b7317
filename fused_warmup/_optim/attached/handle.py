"""`attach`: a schedule that drives an optimizer of torch or of anybody.

Hooks of torch's stand around each step; `Step` says what they do.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# Keeping Dynamo out takes longer than a launch: only for a step that it compiles, or runs.
from torch._C._dynamo.eval_frame import get_eval_frame_callback as is_dynamo_watching
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from ..._groups.attached import BASE, COUNT
from ..._groups.options import plain_schedule
from ..._step.counters import MAX_STEPS, Counters, one_count
from ...schedules import Schedule
from ...schedules.checks import whole
from ...schedules.plain import PlainSchedule
from ..two_rates import TwoRates
from .followed import SCHEDULE, Followed, checked_rate, follow
from .groups import Groups
from .saving import Saving, compare
from .shown import AttachedRates, text_of
from .step import Step


class Attached:
    """A schedule that drives an optimizer; what `attach` returns.

    Attributes:
        optimizer: The optimizer.
    """

    def __init__(
        self, optimizer: Optimizer, schedule: Schedule | Mapping[str, Any] | None = None
    ) -> None:
        self.optimizer = optimizer
        self._counters = Counters()
        self._groups = Groups(optimizer, self._counters)
        self._two_rates = TwoRates()  # where `RateInForce` notes that it takes part
        self._step = Step(optimizer, self._groups, self._counters)
        own = plain_schedule(schedule)
        groups = optimizer.param_groups
        given = [self._given(group, own, i) for i, group in enumerate(groups)]
        followed = [follow(optimizer, group, i) for i, group in enumerate(given)]
        if all(each.schedule is None for each in followed):
            raise ValueError(
                "no group has a schedule: pass one, attach(optimizer, schedule), or give groups "
                f"their own, {{'params': ..., '{SCHEDULE}': ...}}"
            )
        counts = [group[COUNT] for group in groups if COUNT in group]
        count = one_count(counts) if counts else 0
        self._groups.follow(followed)
        if count:
            self.steps_applied = count
        if own is not None:
            optimizer.defaults[SCHEDULE] = own
        self._saving = Saving(self)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            *self._saving.hooks(optimizer),
        ]

    @staticmethod
    def of(optimizer: Any) -> "Attached":
        """Return the handle of the schedule that drives an optimizer.

        Raises:
            ValueError: None does.

        Example:
            >>> import torch, fused_warmup
            >>> opt = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
            >>> handle = fused_warmup.attach(opt, fused_warmup.linear_warmup(4))
            >>> fused_warmup.Attached.of(opt) is handle
            True
        """
        handle = find(optimizer)
        if handle is None:
            raise ValueError(
                f"no schedule drives this {type(optimizer).__name__}: attach(optimizer, schedule)"
            )
        return handle

    def _given(
        self, group: dict[str, Any], own: PlainSchedule | None, index: int
    ) -> dict[str, Any]:
        """Return a group with the schedule that it is to follow: its own, else that of all."""
        if own is None:
            return dict(group)
        theirs = group.get(SCHEDULE)
        if isinstance(theirs, str):  # of a checkpoint that was loaded before
            compare(theirs, own, index)
            return {**group, SCHEDULE: own}
        # A copy still has the one that served all groups, which is none of the group's own.
        served_all = theirs is not None and theirs == self.optimizer.defaults.get(SCHEDULE)
        return {**group, SCHEDULE: own} if served_all else {SCHEDULE: own, **group}

    # -- the step, see step.py -------------------------------------------------------------------

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if is_dynamo_compiling() or is_dynamo_watching() is not None:
            self._begin_outside(optimizer)
        else:
            self._step.begin(optimizer)

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if is_dynamo_compiling() or is_dynamo_watching() is not None:
            self._end_outside(optimizer)
        else:
            self._step.end(optimizer)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _begin_outside(self, optimizer: Any) -> None:
        self._step.begin(optimizer)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def _end_outside(self, optimizer: Any) -> None:
        self._step.end(optimizer)

    # -- what the step did -----------------------------------------------------------------------

    @property
    def steps_applied(self) -> int:
        """Updates applied so far (``t``, the step that comes next). Reading it synchronises.

        Set it to start a schedule in the middle: all groups have one count.
        """
        for device in self._counters.by_device:
            return self._counters.value() - int(self._step.pending(device))
        return 0

    @steps_applied.setter
    def steps_applied(self, value: int) -> None:
        count = whole("steps_applied", value, 0)
        if count > MAX_STEPS:
            raise ValueError(
                f"steps_applied={value!r} must be an int of at most {MAX_STEPS}: pass the number "
                "of updates that were applied before"
            )
        self.take_in_groups()
        for each in self._groups.followed:
            if each.schedule is not None:
                each.schedule.schedule([max(count - 1, 0), count])
        self._step.forget()
        self._counters.set(count)
        self._counters.leave_to_kernels()
        self._groups.follow(self._groups.followed)

    def lr_tensor(self) -> Tensor:
        """Return the rates that the last applied step used, on the device and without a sync.

        Returns:
            float64, one element a group, on the device of the first group's rate. Before the first
            step, and after a load: the rates of the step that comes next.
        """
        if len(self._groups.parts) == 1:
            return self._groups.parts[0].rates.exact
        rows = [self._row_of(each) for each in self._groups.followed]
        return torch.stack([row.to(rows[0].device) for row in rows])

    def _row_of(self, followed: Followed) -> Tensor:
        return next(p.exact_of(followed) for p in self._groups.parts if followed in p.members)

    def get_last_lr(self) -> list[float]:
        """Return the rates that the last applied step used, one float a group. Synchronises."""
        return self.lr_tensor().tolist()

    def scheduler(self) -> AttachedRates:
        """Return a torch LRScheduler that changes nothing and tells the rate of the next step.

        For trainers that insist on a scheduler; see `RateInForce`.
        """
        return AttachedRates(self)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups, with the base in the place of the rate: to read."""
        own = {"momentum": 0.0, "momentum_schedule": None}
        groups = self.optimizer.param_groups
        return [
            {**own, **group, "lr": group.get(BASE, each.base), SCHEDULE: each.schedule}
            for each, group in zip(self._groups.followed, groups, strict=False)
        ]

    def update_captured(self) -> None:
        """Let steps recorded in CUDA graphs use the groups' present bases at their next replay.

        After ``group["initial_lr"]`` was set: hooks run at capture and not at a replay. Which
        schedules groups follow cannot change in a captured step.
        """
        groups = self.optimizer.param_groups
        for i, (each, group) in enumerate(zip(self._groups.followed, groups, strict=True)):
            if group[BASE] is not each.base:
                each.base = group[BASE] = checked_rate(group[BASE], i)
        for part in self._groups.parts:
            part.rates.update_captured([each.base for each in part.members])

    def remove(self) -> None:
        """Let go of the optimizer: each group has its base as a plain ``"lr"`` again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.optimizer.defaults.pop(SCHEDULE, None)
        known = {id(each.params): each for each in self._groups.followed}
        for group in self.optimizer.param_groups:
            if id(group["params"]) in known:
                known[id(group["params"])].take_out_of(group)

    # -- saving and loading, see saving.py -------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a step has been counted that has not come to its end, and may have raised."""
        return self._step.is_running

    def count_to_save(self) -> Tensor:
        """Return the count, without a step that has not come to its end."""
        counter = next(iter(self._counters.by_device.values()))
        return counter - self._step.pending(counter.device) if self.is_running else counter

    def take_in_groups(self) -> None:
        """Follow groups that were added since the last step, before all get a count."""
        if len(self.optimizer.param_groups) != len(self._groups.followed):
            self._step.take_back()
            self._groups.settle()

    def go_on(self, followed: list[Followed], count: int | None) -> None:
        """Follow what `Groups.loaded` returned, from a count; None: from the present one."""
        self._step.take_back()
        if count is not None:
            self._counters.set(count)
        self._groups.follow(followed)

    # -- what RateLog asks -----------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Any) -> Any:
        """Call a hook before each step, before it is counted."""
        registered = self.optimizer.register_step_pre_hook(hook)
        self.optimizer._optimizer_step_pre_hooks.move_to_end(registered.id, last=False)  # type: ignore[attr-defined]
        return registered

    def register_step_post_hook(self, hook: Any) -> Any:
        """Call a hook after each step."""
        return self.optimizer.register_step_post_hook(hook)

    def _take_over_count(self) -> None:
        self._step.take_back()

    # -- copies and text -------------------------------------------------------------------------

    def __reduce__(self) -> Any:
        # A copy of the optimizer has no hooks: torch leaves them behind.
        return Attached, (self.optimizer,)

    def __repr__(self) -> str:
        return text_of(self.optimizer, self._groups)


def find(optimizer: Any) -> Attached | None:
    """Return the handle whose hooks an optimizer has."""
    hooks = getattr(optimizer, "_optimizer_step_pre_hooks", {}).values()
    owners = (getattr(hook, "__self__", None) for hook in hooks)
    return next((owner for owner in owners if isinstance(owner, Attached)), None)
