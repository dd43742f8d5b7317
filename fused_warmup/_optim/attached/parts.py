"""The groups that one launch serves."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..._step.rates import Rates
from .followed import Followed


@dataclass(slots=True, eq=False)
class Part:
    """Groups whose rates are worked out on one device, and given out in one form.

    Attributes:
        rates: Their rates.
        device: Where.
        gets_tensor: Whether they get tensors; else numbers.
        members: What each group follows, in the order of `rates`.
        counts: Whether this launch moves the device's count.
    """

    rates: Rates
    device: torch.device
    gets_tensor: bool
    members: list[Followed]
    counts: bool

    @property
    def changes_by_step(self) -> bool:
        """Whether a launch changes what `hand_out` notes: numbers, versions of tensors."""
        return not self.gets_tensor or self.rates.copies

    def hand_out(self) -> None:
        """Note what the groups are to hold."""
        if self.gets_tensor:
            for each, lr in zip(self.members, self.rates.lr, strict=True):
                each.lr, each.version = lr, lr._version
        else:
            for each, value in zip(self.members, self.rates.exact.tolist(), strict=True):
                each.lr = value

    def exact_of(self, member: Followed) -> Tensor:
        """Return a group's rate, on the device."""
        return self.rates.exact[self.members.index(member)]

    def rate_of(self, member: Followed) -> float:
        """Return a group's rate as it was given out. Waits for the device."""
        exact = self.exact_of(member)
        return float(exact.to(member.lr.dtype) if self.gets_tensor else exact)
