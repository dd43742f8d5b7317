"""A copy of one of torch's own schedulers over a stand-in for its optimizer, to be run ahead.

torch's schedulers are recursions over ``group["lr"]``, and a SequentialLR or ChainedScheduler moves
several of them over the same number. Nobody states what comes out better than they do, bugs
included, so the copy runs torch's own code. Between two events, where one formula is known to rule,
`Sandbox.jump` skips the steps.
"""

import copy
import inspect
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingWarmRestarts,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.optim.swa_utils import SWALR

from .. import libraries
from .stand_in import ON_THE_HOST, StandIn, StaysOnTheHost

COUNTS = ("T_cur", "T_i", "finished", "step_in_cycle", "cycle", "cur_cycle_steps")
"""What schedulers count beside ``last_epoch``."""
RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""Entries of a group that are learning rates; schedulers read them."""


def children(scheduler: Any) -> list[Any] | None:
    """Return what a SequentialLR or ChainedScheduler holds; None for any other scheduler."""
    if isinstance(scheduler, (SequentialLR, ChainedScheduler)):
        return list(scheduler._schedulers)
    return None


def leaves(scheduler: Any) -> Iterator[Any]:
    """Yield the schedulers that are not made of others."""
    inside = children(scheduler)
    if inside is None:
        yield scheduler
        inside = [libraries.after(scheduler)]
    for child in inside:
        if child is not None:
            yield from leaves(child)


def clock(scheduler: Any) -> int:
    """Return how many times a scheduler has been stepped."""
    if isinstance(scheduler, ChainedScheduler):
        return clock(scheduler._schedulers[0])
    if (ruling := libraries.successor(scheduler)) is not None:
        return libraries.ramp_steps(scheduler) + clock(ruling)
    return max(int(scheduler.last_epoch), 0)  # below 0 for one that never counts


def check_convertible(scheduler: Any) -> None:
    """Raise where a scheduler cannot become a function of the step.

    Raises:
        TypeError: It is driven by a metric or by what its step() is told, or is no scheduler of
            torch's.
    """
    for leaf in leaves(scheduler):
        if isinstance(leaf, ReduceLROnPlateau):
            raise TypeError(
                "ReduceLROnPlateau follows a metric, which a schedule cannot: build it with the "
                'fused optimizer, whose group["lr"] it may set, also if there is a schedule'
            )
        if isinstance(leaf, type):
            raise TypeError(
                f"got the class {leaf.__name__}, it must be a scheduler of "
                "torch.optim.lr_scheduler: build one of it, over the optimizer"
            )
        if not isinstance(leaf, LRScheduler):
            if isinstance(leaf, int):
                raise TypeError(
                    f"got {leaf}, it must be a scheduler: of what timm's create_scheduler_v2 "
                    "returns pass the first"
                )
            raise TypeError(
                f"got a {type(leaf).__name__}, it must be a scheduler of torch.optim.lr_scheduler: "
                "use from_timm for timm's, schedules.from_callable for a function of the step"
            )
    for each in {id(each): each for each in (scheduler, *leaves(scheduler))}.values():
        _check_steppable(each)
        _check_followed(each)


def _check_followed(scheduler: Any) -> None:
    after = libraries.after(scheduler)
    if children(after):
        raise TypeError(
            f"a GradualWarmupScheduler gives its after_scheduler's step() an epoch, which "
            f"{type(after).__name__} does not take: it breaks off there itself, so use "
            "SequentialLR, or linear_warmup(...).then(from_torch(after_scheduler))"
        )


def _check_steppable(scheduler: Any) -> None:
    signature = inspect.signature(scheduler.step)
    try:
        signature.bind()
    except TypeError:
        needed = [p.name for p in signature.parameters.values() if p.default is p.empty]
        raise StaysOnTheHost(
            f"the step() of {type(scheduler).__name__} must be given {', '.join(needed)}, which no "
            f"schedule can know: {ON_THE_HOST}"
        ) from None


class Sandbox:
    """One group's learning rate under a copy of a scheduler, in units of ``unit``.

    Args:
        scheduler: The scheduler, which is left alone; all of it torch's own (`known.stranger`).
        group: Index of the group, the only one that the copy has.
        live: Start from the scheduler's present state instead of the state it was built in.
    """

    def __init__(self, scheduler: Any, group: int, live: bool) -> None:
        self._live = live
        self._index = group
        optimizer = optimizer_of(scheduler)
        mine = {k: v for k, v in optimizer.param_groups[group].items() if k != "params"}
        self.unit = float(mine.get("initial_lr", mine["lr"])) or 1.0
        for name in RATES:
            if name in mine:
                mine[name] = float(mine[name]) / self.unit
        if not live:
            mine["lr"] = mine.get("initial_lr", mine["lr"])
        self.stand_in = StandIn([mine], dict(optimizer.defaults))
        self.scheduler = self._copy(scheduler)

    def _copy(self, scheduler: Any) -> Any:
        inside = children(scheduler)
        if inside is None:
            return self._copy_leaf(scheduler)
        copies = [self._copy(child) for child in inside]
        optimizer: Any = self.stand_in
        if isinstance(scheduler, ChainedScheduler):
            return ChainedScheduler(copies, optimizer=optimizer)
        if not self._live:
            return SequentialLR(optimizer, copies, list(scheduler._milestones))
        sequential = copy.copy(scheduler)
        sequential._schedulers, sequential.optimizer = copies, optimizer
        return sequential

    def _copy_leaf(self, scheduler: Any) -> Any:
        leaf = copy.copy(scheduler)
        if (after := libraries.after(leaf)) is not None:
            if leaf.finished and not self._live:
                after = copy.copy(after)
                after.base_lrs = leaf.base_lrs  # those before they were multiplied
            leaf.after_scheduler = self._copy(after)
            # Release 0.3 asks for its get_lr() out of step, at which torch would warn.
            leaf.after_scheduler._get_lr_called_within_step = True
        self._narrow_down(leaf)
        leaf.optimizer = self.stand_in
        if not self._live:
            libraries.start_over(leaf)
        return leaf

    def _narrow_down(self, leaf: Any) -> None:
        for name in ("base_lrs", "max_lrs", "_last_lr"):
            if hasattr(leaf, name):
                setattr(leaf, name, [float(getattr(leaf, name)[self._index]) / self.unit])
        for name in ("lr_lambdas", "base_momentums", "max_momentums"):
            if hasattr(leaf, name):
                setattr(leaf, name, [getattr(leaf, name)[self._index]])
        for name in ("eta_min", *libraries.RATES.get(libraries.kind_of(leaf), ())):
            if hasattr(leaf, name):
                setattr(leaf, name, float(getattr(leaf, name)) / self.unit)

    @property
    def group(self) -> dict[str, Any]:
        """The group."""
        return self.stand_in.param_groups[0]

    @property
    def lr(self) -> float:
        """The rate in force, in units of `unit`."""
        return float(self.group["lr"])

    def step(self) -> None:
        """Take one step by the scheduler's own code.

        Raises:
            ValueError: It divides by 0 there, which ends any training with it.
        """
        try:
            self.scheduler.step()
        except ZeroDivisionError as error:
            raise ValueError(
                f"{type(self.scheduler).__name__} divides by 0 at its own step "
                f"{clock(self.scheduler)}: give it other lengths, or steps= of fewer"
            ) from error

    def active(self) -> tuple[list[Any], int | None]:
        """Return the leaves that the next steps move, and after how many steps others take over."""
        found: list[Any] = []
        return found, self._walk(self.scheduler, lambda leaf: found.append(leaf))

    def jump(self, steps: int, lr: float) -> None:
        """Advance by ``steps`` steps within which nothing but the formula of ``lr`` happens."""

        def move(leaf: Any) -> None:
            leaf.last_epoch += steps
            leaf._step_count += steps
            if isinstance(leaf, CosineAnnealingWarmRestarts):
                leaf.T_cur = (leaf.T_cur + steps) % leaf.T_i
            if libraries.kind_of(leaf) == libraries.WARMUP_RESTARTS:
                libraries.move_in_cycle(leaf, steps)

        self._walk(self.scheduler, move, steps)
        self.group["lr"] = lr

    def state(self) -> list[float]:
        """Return the numbers that decide what comes, beside the options of the classes."""
        found = [self.lr]

        def note(node: Any) -> None:
            if not isinstance(node, ChainedScheduler) and libraries.successor(node) is None:
                found.append(node.last_epoch)
            found.extend(getattr(node, name) for name in COUNTS if hasattr(node, name))
            if isinstance(node, SWALR):
                found.append(node._step_count)
            for child in children(node) or [libraries.after(node)]:
                if child is not None:
                    note(child)

        note(self.scheduler)
        return found

    def _walk(self, node: Any, visit: Callable[[Any], object], steps: int = 0) -> int | None:
        if isinstance(node, ChainedScheduler):
            limits = [self._walk(child, visit, steps) for child in node._schedulers]
        elif isinstance(node, SequentialLR):
            node.last_epoch += steps
            later = [m - node.last_epoch for m in node._milestones if m > node.last_epoch]
            ruling = node._schedulers[bisect_right(node._milestones, node.last_epoch)]
            limits = [self._walk(ruling, visit, steps), min(later, default=None)]
        elif (ruling := libraries.successor(node)) is not None:
            return self._walk(ruling, visit, steps)
        else:
            visit(node)
            if libraries.after(node) is None:
                return None
            return libraries.ramp_steps(node) - int(node.last_epoch)
        return min((limit for limit in limits if limit is not None), default=None)


def optimizer_of(scheduler: Any) -> Any:
    """Return the optimizer that a scheduler drives."""
    return next(leaves(scheduler)).optimizer
