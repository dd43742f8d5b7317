"""The count in the optimizer's own state dict, and in copies: hooks around saving and loading.

Groups hold the count as a tensor, which every loader knows: one that torch.distributed.checkpoint
fills in place, that ``torch.load(weights_only=True)`` reads, that Lightning and Accelerate move.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from ..._advice import advise
from ..._groups.attached import COUNT
from ..._groups.options import plain_schedule
from ..._step.counters import copy_of_count, one_count
from ...schedules.plain import PlainSchedule
from ..checkpoints.structure import check_structure, read_count
from .followed import SCHEDULE, Followed

if TYPE_CHECKING:
    from .handle import Attached


class Saving:
    """What an attached schedule does when its optimizer is saved and loaded.

    Args:
        handle: The handle.
    """

    def __init__(self, handle: "Attached") -> None:
        self._handle = handle
        # Between the hooks of a load: what groups will follow, from which count.
        self._followed: list[Followed] = []
        self._count: int | None = None

    def hooks(self, optimizer: Optimizer) -> list[Any]:
        """Register the hooks."""
        return [
            optimizer.register_state_dict_post_hook(self._save),
            optimizer.register_load_state_dict_pre_hook(self._check),
            optimizer.register_load_state_dict_post_hook(self._load),
            _Copying(optimizer, self._handle),
        ]

    def _save(self, optimizer: Any, state_dict: dict[str, Any]) -> None:
        """Give copies of what the next step writes to, and schedules as texts."""
        count = self._handle.count_to_save()
        for group in state_dict["param_groups"]:
            if isinstance(group.get(COUNT), Tensor):
                group[COUNT] = copy_of_count(count).to(group[COUNT].device)
            if isinstance(group.get("lr"), Tensor):
                group["lr"] = group["lr"].detach().clone()
            if group.get(SCHEDULE) is not None:
                group[SCHEDULE] = json.dumps(plain_schedule(group[SCHEDULE]))

    def _check(self, optimizer: Any, state_dict: dict[str, Any]) -> None:
        """Raise where a state dict's counts or bases are none, before anything is loaded."""
        groups = [g for g in state_dict.get("param_groups", ()) if isinstance(g, Mapping)]
        counts = [group[COUNT] for group in groups if COUNT in group]
        self._count = one_count(counts) if counts else None
        if groups and all("momentum_schedule" in group for group in groups) and not counts:
            check_structure(state_dict, optimizer.param_groups)
            self._count = read_count(state_dict)  # of fused_warmup.SGD
        self._handle.take_in_groups()
        own = self._handle._groups.followed
        if len(groups) == len(own):  # else torch raises
            self._followed = self._handle._groups.loaded(groups)
            for i, (group, each) in enumerate(zip(groups, own, strict=True)):
                compare(group.get(SCHEDULE), each.schedule, i)

    def _load(self, optimizer: Any) -> None:
        """Take over the count and the bases, and put back what is ours."""
        self._handle.go_on(self._followed, self._count)


class _Copying:
    """Lets ``copy.deepcopy`` and ``pickle`` leave out the count of a step that raised.

    Both ask the optimizer for its ``__getstate__``; torch has no hook there.
    """

    def __init__(self, optimizer: Optimizer, handle: "Attached") -> None:
        self._optimizer, self._handle = optimizer, handle
        optimizer.__getstate__ = self._state  # type: ignore[method-assign]

    def _state(self) -> Any:
        state: dict[str, Any] = type(self._optimizer).__getstate__(self._optimizer)
        if not self._handle.is_running:
            return state
        count = self._handle.count_to_save()
        groups = [
            {**group, COUNT: count.to(group[COUNT].device)} if COUNT in group else group
            for group in state["param_groups"]
        ]
        return {**state, "param_groups": groups}

    def remove(self) -> None:
        """Let the optimizer's class answer again."""
        vars(self._optimizer).pop("__getstate__", None)


def compare(theirs: Any, own: PlainSchedule | None, index: int) -> None:
    """Warn where a checkpoint's schedule is another than the one in force, which stays."""
    if theirs is None or own is None:
        return
    plain = plain_schedule(theirs)
    if plain is not None and plain.schedule != own.schedule:
        advise(
            f"the schedule of group {index} in the checkpoint, {plain.schedule}, is not the one "
            f"attached here, {own.schedule}, which stays: to go on with the checkpoint's, "
            f"set optimizer.param_groups[{index}]['{SCHEDULE}'] to it"
        )
