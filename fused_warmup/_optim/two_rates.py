"""A scheduler over an optimizer whose groups have a schedule: the rate is the product of both.

That may be meant, so it is a warning, one for each optimizer. torch's and timm's schedulers leave
``initial_lr`` in the groups; ReduceLROnPlateau, which belongs on top, does not.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from .._advice import advise
from ..schedules import Schedule

if TYPE_CHECKING:
    from .counted import CountedOptimizer

MAX_READS = 3
"""Most times that a step reads the count for this, which waits for the device."""


class TwoRates:
    """Whether a scheduler moves the rate of one optimizer that its schedule moves, too."""

    def __init__(self) -> None:
        self.seen: Any = None  # the lr of the first group when it was last looked at
        self.expected = False  # opt.scheduler() is used as a scheduler: others around it are meant
        self.loaded = False  # a checkpoint may have brought an initial_lr
        self._warned = False
        self._reads = 0

    def look(self, optimizer: "CountedOptimizer", lr: Any) -> None:
        """Look at the rates before a step, ``lr`` being that of the first group.

        A step calls this where the number is another than at the step before.
        """
        self.seen = lr
        if self._warned or self.expected or self._reads == MAX_READS:
            return
        if self.loaded and not hasattr(optimizer.step, "_wrapped_by_lr_sched"):
            return
        moved = [(i, g) for i, g in enumerate(optimizer.param_groups) if _is_moved(g)]
        if not moved or (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            return
        self._reads += 1
        t = optimizer.steps_applied
        for i, group in moved:
            factor = Schedule.from_dict(group["schedule"])(t)
            if factor != 1.0:
                self._warned = True
                advise(
                    f"group {i} has lr={group['lr']:.4g}, which a scheduler made of "
                    f"{group['initial_lr']:.4g}, and its schedule multiplies that again, by "
                    f"{factor:.4g} at step {t}: drop the scheduler and its step(), or the "
                    "schedule, group['schedule'] = None; opt.scheduler() is for trainers that "
                    "want a scheduler"
                )
                return

    def look_at_new_group(self, given: Mapping[str, Any], added: Mapping[str, Any]) -> None:
        """Look at a group that comes from another optimizer, with the rate of the moment there."""
        if not self._warned and "lr" in given and _is_moved(added):
            self._warned = True
            advise(
                f"a group has lr={added['lr']:.4g}, which a scheduler over another optimizer made "
                f"of {added['initial_lr']:.4g}, and its schedule is a factor of lr: set "
                "group['lr'] = group['initial_lr'] first, or pass that optimizer and its scheduler "
                "to convert(optimizer, scheduler)"
            )


def _is_moved(group: Mapping[str, Any]) -> bool:
    """Whether a group with a schedule has another rate than schedulers found there.

    Numbers only: a tensor's value may be on a device. A number out of range is the step's matter.
    """
    lr, initial = group.get("lr"), group.get("initial_lr")
    if group.get("schedule") is None or not isinstance(initial, (int, float)):
        return False
    return isinstance(lr, (int, float)) and 0 < lr < math.inf and lr != initial
