"""What errors call a parameter."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def describe(param: Tensor, group: Mapping[str, Any]) -> str:
    """Name a parameter in an error: by name where the group has names, else by shape."""
    for name, each in zip(group.get("param_names", ()), group["params"], strict=False):
        if each is param:
            return f"parameter {name!r}"
    return f"a parameter of shape {tuple(param.shape)}"
