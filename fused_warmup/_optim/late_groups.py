"""Which schedule a group follows that is added in mid-training and says nothing of it.

That of the other groups, where they share one: trainers that unfreeze a model add its layers so. It
stands in the optimizer's defaults, from where torch's `add_param_group` takes all options.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .._advice import advise
from .._groups.options import SCHEDULES

Group = Mapping[str, Any]


def shared_schedules(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the schedules that all groups follow; None where there is none or they differ."""
    return {
        name: groups[0][name] if all(g[name] == groups[0][name] for g in groups) else None
        for name in SCHEDULES
        if groups
    }


def inherit(defaults: dict[str, Any], groups: Sequence[Group], before: Group) -> None:
    """Make what all groups follow the default.

    Args:
        defaults: The optimizer's defaults. One that was given in code, and that groups did not
            follow, stays.
        groups: Its groups.
        before: What they all followed before a load; empty after they were made.
    """
    for name, schedule in shared_schedules(groups).items():
        default = defaults.get(name)
        if default is None or default == before.get(name):
            defaults[name] = schedule


def warn_if_left_out(added: Group, defaults: Group, groups: Sequence[Group]) -> None:
    """Warn of a group that will follow no schedule where all others follow one."""
    for name in SCHEDULES:
        left_out = name not in added and defaults[name] is None
        if left_out and all(group[name] is not None for group in groups):
            advise(
                f"the added group follows no {name}, and those of the other groups differ: give it "
                f"one, {{'params': ..., {name!r}: ...}}, or None to say that it has none"
            )
