"""Which optimizers take a learning rate that is a tensor without reading it back to the host.

As torch's sources have it, release 2.13, and as tests/optim/test_attach.py counts. What is not
known here gets numbers: that is right for every optimizer.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
CAPTURABLE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "ASGD", "Rprop")
CAPTURABLE_FOREACH = ("RMSprop", "Adadelta")
"""Those whose loop over tensors reads the rate back, and whose foreach form does not."""


def takes_tensor(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Tell whether a group's rate may be a tensor that the device fills.

    One that is a tensor already was made so by whoever built the optimizer, to compile its step
    for one.
    """
    if isinstance(group["lr"], Tensor):
        return True
    name = _torchs_own(optimizer)
    if group.get("fused"):
        return name in FUSED
    if group.get("capturable"):
        by_foreach = name in CAPTURABLE_FOREACH and group.get("foreach") is not False
        return name in CAPTURABLE or by_foreach
    return False


def _torchs_own(optimizer: Optimizer) -> str:
    """Return the class of torch's whose step an optimizer makes; "" for a step of its own."""
    step = type(optimizer).step
    own = getattr(step, "__module__", "").startswith("torch.optim.")
    return str(step.__qualname__).partition(".")[0] if own else ""


def refuses_amp(optimizer: Optimizer) -> bool:
    """Tell whether a step that gets no tensor raises under GradScaler's scalars.

    torch's own do that: one built with ``fused=True`` that loads a checkpoint without still says
    that it skips by itself.
    """
    return _torchs_own(optimizer) in FUSED


def remedy(optimizer: Optimizer) -> str:
    """Say how an optimizer gets its rates on the device."""
    name = _torchs_own(optimizer)
    if name in FUSED:
        return "build it with fused=True"
    if name in CAPTURABLE + CAPTURABLE_FOREACH:
        return "build it with capturable=True on a GPU"
    return "lr=torch.tensor(...) if its step reads no tensor back, or is compiled"
