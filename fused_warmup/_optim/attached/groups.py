"""The groups of an optimizer, what each of them follows, and what others wrote into them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..._groups.attached import BASE, COUNT
from ..._step.counters import Counters, one_count
from ..._step.rates import Rates
from .followed import SCHEDULE, Followed, checked_rate, follow
from .parts import Part


class Groups:
    """An optimizer's groups, as a schedule drives them.

    Args:
        optimizer: The optimizer.
        counters: The counts of its steps.

    Attributes:
        followed: What each group follows.
        parts: The launches that work out their rates.
        give_numbers: Whether any group gets its rate as a number.
        change_by_step: Whether `hand_out` has something to do after a launch.
    """

    def __init__(self, optimizer: Optimizer, counters: Counters) -> None:
        self._optimizer, self._counters = optimizer, counters
        self.followed: list[Followed] = []
        self.parts: list[Part] = []
        self.give_numbers = self.change_by_step = False
        self._retired: list[Rates] = []  # of which a CUDA graph may hold a launch

    def follow(self, followed: list[Followed]) -> None:
        """Give groups their part. What can fail has failed by then."""
        used = {each.device for each in followed}
        counters = {device: self._counters.of(device) for device in used}
        self._counters.by_device = counters
        self._counters.leave_to_kernels()
        members: dict[tuple[torch.device, bool], list[Followed]] = {}
        for each in followed:
            each.count = counters[each.device]
            members.setdefault((each.device, each.gets_tensor), []).append(each)
        before = {(part.device, part.gets_tensor): part.rates for part in self.parts}
        last = {device: key for key in members for device in key[:1]}
        parts = []
        for key, own in members.items():
            rates = before.pop(key, None) or Rates(*key, counters[key[0]])
            rates.follow([each.base for each in own], [each.schedule for each in own])
            parts.append(Part(rates, *key, own, counts=last[key[0]] == key))
        self._retired += before.values()
        self.followed, self.parts = followed, parts
        self.give_numbers = not all(part.gets_tensor for part in parts)
        self.change_by_step = any(part.changes_by_step for part in parts)
        for part in parts:
            part.hand_out()
        for each, group in zip(followed, self._optimizer.param_groups, strict=True):
            each.put_into(group)

    def hand_out(self) -> None:
        """Give groups the rates of a step, where the launch itself does not."""
        for part in self.parts:
            part.hand_out()
        for each, group in zip(self.followed, self._optimizer.param_groups, strict=True):
            group["lr"] = each.lr

    def are_as_left(self) -> bool:
        """Tell whether nobody else has written to any group. Each step asks."""
        groups = self._optimizer.param_groups
        if len(groups) != len(self.followed) or (groups and self.followed[0].has_moved()):
            return False
        for each, group in zip(self.followed, groups, strict=True):
            if (
                group.get("lr") is not each.lr
                or group.get(BASE) is not each.base
                or group.get(SCHEDULE) is not each.schedule
                or group.get(COUNT) is not each.count
                or (isinstance(each.lr, Tensor) and each.lr._version != each.version)
            ):
                return False
        return True

    def settle(self) -> None:
        """Take over what others wrote into groups, and groups that are new, before a step.

        Raises:
            RuntimeError: A scheduler writes the rates, too, or a rate of 0 was written over.
            TypeError: A base that is no number, or a schedule that is none.
            ValueError: A base out of range.
        """
        groups = self._optimizer.param_groups
        known = {id(each.params): each for each in self.followed}
        followed = []
        for i, group in enumerate(groups):
            before = known.get(id(group["params"]))
            if before is None:
                followed.append(follow(self._optimizer, group, i))
                continue
            base = before.base
            if group.get(BASE, base) is not base:
                base = checked_rate(group[BASE], i)
            elif group.get("lr") is not before.lr or before.gets_tensor:
                base = self._scaled(i, group, before)
            followed.append(before.again(self._optimizer, {**group, BASE: base}, i))
        ours = {id(each.count) for each in self.followed}
        foreign = [g[COUNT] for g in groups if COUNT in g and id(g[COUNT]) not in ours]
        count = one_count(foreign) if foreign else None
        if count is not None:
            self._counters.set(count)
        self.follow(followed)

    def _scaled(self, index: int, group: Mapping[str, Any], before: Followed) -> float:
        """Return the base under a rate that others wrote: by as much as they scaled the rate.

        ReduceLROnPlateau does so. What sets rates without looking at ours is refused.
        """
        ours = next(part.rate_of(before) for part in self.parts if before in part.members)
        theirs = checked_rate(group.get("lr"), index)
        if theirs == ours:
            return before.base
        name = type(self._optimizer).__name__
        if hasattr(self._optimizer.step, "_wrapped_by_lr_sched"):
            raise RuntimeError(
                f"a scheduler wrote lr={theirs:.4g} into group {index} of {name}, whose schedule "
                f"had written {ours:.4g}: drop the scheduler and its step(), or convert it, "
                "fused_warmup.from_torch; handle.scheduler() is for trainers that want one"
            )
        if ours == 0.0:
            raise RuntimeError(
                f"lr={theirs:.4g} was written into group {index} of {name}, whose rate is 0 now, "
                f"which nothing scales: set group['{BASE}'], of which its schedule is a factor, or "
                "call handle.remove()"
            )
        return before.base * (theirs / ours)

    def are_in_a_dry_run(self) -> bool:
        """Tell whether this is torch.distributed.checkpoint's step to make state at a rate of 0."""
        if self._optimizer.state:
            return False
        groups = self._optimizer.param_groups
        return len(groups) == len(self.followed) and all(
            group.get("lr") is not each.lr and float(group.get("lr", 1.0)) == 0.0
            for each, group in zip(self.followed, groups, strict=True)
        )

    def loaded(self, groups: Sequence[Mapping[str, Any]]) -> list[Followed]:
        """Return what groups will follow that a load puts in the place of ours.

        Raises:
            TypeError: A base is no number.
            ValueError: One is out of range.
            RuntimeError: The loaded options leave no way; see `follow`.
        """
        followed = []
        for i, (before, group) in enumerate(zip(self.followed, groups, strict=False)):
            base = checked_rate(group.get(BASE, group.get("lr", before.base)), i)
            own = {**group, "params": before.params, BASE: base, SCHEDULE: before.schedule}
            followed.append(before.again(self._optimizer, own, i))
        return followed
