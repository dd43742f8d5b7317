"""What still moves an optimizer that `convert` has replaced says so, once each."""

from collections.abc import Mapping
from typing import Any

import torch

from .._advice import advise


class Replaced:
    """The warnings of one old optimizer."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, what: str) -> None:
        """Warn, if it is the first time."""
        if what not in self._told:
            self._told.add(what)
            advise(what)


class ReplacedGroup(dict[str, Any]):
    """A group of the old optimizer; a scheduler that sets its rate moves nothing.

    Copies are plain dicts.
    """

    def __init__(self, group: Mapping[str, Any], replaced: Replaced) -> None:
        super().__init__(group)
        self._replaced = replaced

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if key == "lr":
            self._replaced.tell(
                "the learning rate was set of a torch.optim.SGD that convert() has replaced, which "
                "changes nothing: take out the call that sets it, scheduler.step() say, or pass "
                "that scheduler to convert(), too, as in convert(optimizer, [scheduler, plateau])"
            )

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def replace(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer tell when it is used, whose run another continues."""
    replaced = Replaced()
    groups = optimizer.param_groups
    groups[:] = [ReplacedGroup(group, replaced) for group in groups]
    # A scheduler that goes on would say that its step came before the optimizer's.
    optimizer._opt_called = True  # type: ignore[attr-defined]

    def tell(*_: Any) -> None:
        replaced.tell(
            "step() was called of a torch.optim.SGD that convert() has replaced, which moves the "
            "same parameters a second time: call step() of the optimizer that convert() returned"
        )

    optimizer.register_step_pre_hook(tell)
