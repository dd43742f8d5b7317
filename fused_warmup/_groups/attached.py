"""What `fused_warmup.attach` adds to the groups of an optimizer, and what its checkpoints say."""

from collections.abc import Mapping, Sequence
from typing import Any

COUNT, BASE = "steps_applied", "initial_lr"
"""The count of steps, and the rate that the schedule is a factor of; ``"lr"`` is their product."""


def without_attached(
    groups: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Any]]:
    """Return a checkpoint's groups as they are without `attach`, and the counts that it had."""
    plain = [
        {k: v for k, v in group.items() if k not in (COUNT, BASE)} | {"lr": group[BASE]}
        if COUNT in group and BASE in group
        else group
        for group in groups
    ]
    return plain, [group[COUNT] for group in groups if COUNT in group]
