"""What a state dict must look like, and the step count that it tells."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from ..._step.counters import one_count

Group = Mapping[str, Any]
REMEDY = "load what the optimizer's state_dict() gave"


def check_is_mapping(state_dict: Any) -> None:
    """Raise where something else is passed for a state dict, a file's path say."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"the state dict is a {type(state_dict).__name__}, it must be a mapping: {REMEDY}, or "
            "torch.load(path) of a file"
        )


def check_structure(state_dict: Any, groups: Sequence[Group]) -> None:
    """Raise where a state dict has not the groups of an optimizer.

    Raises:
        KeyError: It is no optimizer's.
        TypeError: A part of it is of the wrong type.
        ValueError: Its groups are others.
    """
    for key, kind in (("state", Mapping), ("param_groups", Sequence)):
        if key not in state_dict:
            raise KeyError(
                f"the state dict has no {key!r} but {sorted(map(str, state_dict))}: {REMEDY}"
            )
        if not isinstance(state_dict[key], kind):
            raise TypeError(
                f"{key!r} of the state dict is a {type(state_dict[key]).__name__}, it must be a "
                f"{kind.__name__.lower()}: {REMEDY}"
            )
    loaded = state_dict["param_groups"]
    if len(loaded) != len(groups):
        raise ValueError(
            f"loaded state dict has a different number of parameter groups, {len(loaded)}, than "
            f"this optimizer, which has {len(groups)}: build it with the same groups"
        )
    for i, (group, own) in enumerate(zip(loaded, groups, strict=True)):
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"group {i} of the state dict is no dict with 'params': {REMEDY}")
        if len(group["params"]) != len(own["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                f"optimizer's group: group {i} has {len(group['params'])} parameters there and "
                f"{len(own['params'])} here, load a checkpoint of the same model"
            )


def keys_of(state_dict: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what a state dict calls each parameter."""
    return chain.from_iterable(group["params"] for group in state_dict["param_groups"])


def read_count(state_dict: Mapping[str, Any]) -> int | None:
    """Return the step count of a state dict whose structure is checked; None: it has none.

    Raises:
        TypeError: A count is no number.
        ValueError: It is out of range, or they disagree.
    """
    entries = [state_dict["state"].get(key) for key in keys_of(state_dict)]
    steps = [entry.get("step") for entry in entries if isinstance(entry, Mapping)]
    steps = [step for step in steps if step is not None]
    return one_count(steps) if steps else None
