"""Which schedulers are known, to the last method: their state is clear, they can start over.

torch's own are, and those of a few libraries (`libraries`).

Any other is run as it is, on a copy, whatever single values of it may look like.
"""

from typing import Any

from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from .. import libraries
from .functions import remembers

MADE_OF_OTHERS = (lr_scheduler.SequentialLR, lr_scheduler.ChainedScheduler)
LEAVES = (
    lr_scheduler.ConstantLR,
    lr_scheduler.CosineAnnealingLR,
    lr_scheduler.CosineAnnealingWarmRestarts,
    lr_scheduler.CyclicLR,
    lr_scheduler.ExponentialLR,
    lr_scheduler.LambdaLR,
    lr_scheduler.LinearLR,
    lr_scheduler.MultiplicativeLR,
    lr_scheduler.MultiStepLR,
    lr_scheduler.OneCycleLR,
    lr_scheduler.PolynomialLR,
    lr_scheduler.StepLR,
    SWALR,
)
HOOKS = {"__getattr__", "__getattribute__", "__setattr__"}
"""Special methods with which a subclass can be another thing; ``__init__`` alone is none."""


def stranger(scheduler: Any) -> str | None:
    """Name the first part of a scheduler that is not known; None if all of it is.

    A subclass that says no more than how it is built is known; so is a LambdaLR whose
    functions cannot remember their calls.

    Example:
        >>> import torch
        >>> opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> stranger(torch.optim.lr_scheduler.LambdaLR(opt, [lambda t: 0.5**t]))
        >>> stranger(torch.optim.lr_scheduler.LambdaLR(opt, [[1.0, 0.5].pop]))
        "LambdaLR with a 'builtin_function_or_method' that may remember its calls"
    """
    name = type(scheduler).__name__
    if not _is_known(scheduler):
        return name
    if isinstance(scheduler, MADE_OF_OTHERS):
        found = map(stranger, scheduler._schedulers)
        return next((each for each in found if each is not None), None)
    if (after := libraries.after(scheduler)) is not None:
        return stranger(after)
    for function in _functions(scheduler):
        if remembers(function):
            return f"{name} with a {type(function).__name__!r} that may remember its calls"
    return None


def _is_known(scheduler: Any) -> bool:
    own: set[str] = set()
    for cls in type(scheduler).__mro__:
        if cls in LEAVES or cls in MADE_OF_OTHERS or libraries.is_known(cls):
            break
        own |= vars(cls).keys()
    else:
        return False
    if own & HOOKS or not all(name.startswith("__") for name in own):
        return False
    # A method that was put on the object alone stands in the way of the class's.
    return not any(callable(getattr(cls, name, None)) for name in vars(scheduler))


def _functions(scheduler: Any) -> list[Any]:
    custom = getattr(scheduler, "_scale_fn_custom", None)
    found = [*getattr(scheduler, "lr_lambdas", ()), *([] if custom is None else [custom])]
    if isinstance(scheduler, SWALR):
        found.append(scheduler.anneal_func)
    return found
