"""timm's Lars: its options in the words of `LARS`."""

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer


def is_timms_lars(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer is timm's Lars, without an import of timm."""
    return any(
        (cls.__module__, cls.__name__) == ("timm.optim.lars", "Lars")
        for cls in type(optimizer).__mro__
    )


def lars_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group of timm's, or its defaults, as `LARS` has them.

    timm leaves a tensor's rate to SGD where the group has no weight decay, unless ``always_adapt``.
    """
    left = ("trust_coeff", "always_adapt", "foreach")
    return {
        **{name: value for name, value in group.items() if name not in left},
        "trust_coefficient": group["trust_coeff"],
        "adapt": group["always_adapt"] or group["weight_decay"] != 0,
        "lr_in_momentum": False,
        "maximize": False,
    }
