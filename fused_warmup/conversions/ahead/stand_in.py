"""What a scheduler's copy has in the place of the optimizer, and of what the training changes."""

from typing import Any

from torch.optim import Optimizer

ON_THE_HOST = 'build the scheduler itself with the fused optimizer, whose group["lr"] it may set'


class StaysOnTheHost(TypeError):
    """A scheduler that no function of the step can state."""


class OfTheTraining:
    """In the place of something that the training changes: an error as soon as it is looked at."""

    def __init__(self, scheduler: str, what: str) -> None:
        object.__setattr__(self, "_names", (scheduler, what))

    def _refuse(self, *_: Any) -> Any:
        scheduler, what = object.__getattribute__(self, "_names")
        raise StaysOnTheHost(
            f"{scheduler} looks at {what}, whose future is not known: {ON_THE_HOST}"
        )

    __getattribute__ = __setattr__ = __getitem__ = __setitem__ = _refuse
    __iter__ = __len__ = __bool__ = __call__ = __contains__ = __float__ = _refuse


class StandIn(Optimizer):
    """What a scheduler needs of an optimizer: the options of its groups."""

    _opt_called = True  # or torch would warn that no step was taken

    def __init__(
        self,
        groups: list[dict[str, Any]],
        defaults: dict[str, Any],
        of: tuple[str, Any] = ("", None),
    ) -> None:
        """Leave torch's own undone: there are no parameters."""
        self.param_groups = groups
        self.defaults = defaults
        self._of = of

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Do nothing."""

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        scheduler, optimizer = vars(self)["_of"]
        if not hasattr(optimizer, name):
            raise AttributeError(f"{type(optimizer).__name__} has no attribute {name!r}")
        raise StaysOnTheHost(
            f"{scheduler} looks at the optimizer's {name}, whose future is not known: {ON_THE_HOST}"
        )
