"""The base rates of SuperGradients' parameter groups, and what they follow."""

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from ...schedules.checks import finite
from ...schedules.schedule import Schedule
from ...schedules.segment import Segment
from .options import BATCH_WARMUP, Options
from .timeline import timeline
from .torch_mode import PLATEAU
from .torch_timeline import torch_timeline


def read_rates(
    given: Any, options: Options, *, existing: bool = False
) -> tuple[dict[str, float], dict[str, float]]:
    """Return each group's base rate and the factor on it at which its warm-up starts.

    Args:
        given: ``initial_lr``: a rate, or rates by the names of groups.
        options: The other training parameters.
        existing: They are of an optimizer that exists, which may have groups of any names.
    """
    start = options.warmup_initial_lr
    if given is None:
        raise ValueError(
            "initial_lr is None, the base rates are needed: pass a number, or for an optimizer "
            "built beforehand {group['name']: group['lr'] for group in optimizer.param_groups}"
        )
    by_name = given if isinstance(given, Mapping) else {"default": given}
    if "default" not in by_name and not existing:
        raise ValueError(
            f"initial_lr has the groups {list(by_name)}, 'default' must be among them: add the "
            "rate of all other parameters under 'default', 0 to freeze them"
        )
    rates = {str(name): finite(f"initial_lr[{name!r}]", lr, 0.0) for name, lr in by_name.items()}
    if not options.warmup_length:
        return rates, dict.fromkeys(rates, 1.0)
    if start is None:
        if options.warmup_mode == BATCH_WARMUP:
            raise ValueError(
                f"warmup_initial_lr is None, {BATCH_WARMUP} needs a rate to start from: set it, "
                "to 0.0 for a start from nothing"
            )
        return rates, dict.fromkeys(rates, 1.0 / (1.0 + options.lr_warmup_epochs))
    starts = start if isinstance(start, Mapping) else dict.fromkeys(rates, start)
    if missing := [name for name in rates if name not in starts]:
        raise ValueError(
            f"warmup_initial_lr lacks the groups {missing} of initial_lr: add their rates, or pass "
            "one number for all"
        )
    factors = {}
    for name, lr in rates.items():
        first = finite(f"warmup_initial_lr[{name!r}]", starts[name], 0.0)
        if lr == 0.0 and first > 0.0 and not isinstance(given, Mapping):
            raise ValueError(
                f"initial_lr=0 with warmup_initial_lr={first}: rates are factors on initial_lr, so "
                "none can be above 0; raise initial_lr"
            )
        factors[name] = first / lr if lr > 0.0 else 1.0
    return rates, factors


def rates_of(optimizer: Optimizer) -> dict[str, float]:
    """Return the base rates of an optimizer that exists, by the names of its groups."""
    found = {}
    for i, group in enumerate(optimizer.param_groups):
        name = "default" if len(optimizer.param_groups) == 1 else group.get("name", f"group_{i}")
        found[str(name)] = finite(f"lr of group {i}", float(group["lr"]), 0.0)
    return found


def schedules_of(
    options: Options, initial_lr: Mapping[str, float], starts: Mapping[str, float]
) -> dict[str, Schedule]:
    """Return the schedule of each group.

    Args:
        options: The training parameters.
        initial_lr: Its base rate.
        starts: The factor on that at which its warm-up starts.
    """
    schedules = {}
    for name, lr in initial_lr.items():
        mode = options.torch_mode
        if lr <= 0.0:
            schedules[name] = Schedule((Segment.constant(1.0),), options.total_steps)
        elif mode is None or mode.name == PLATEAU:
            schedules[name] = timeline(options, lr, starts[name])
        else:
            schedules[name] = torch_timeline(options, mode, lr, starts[name])
    return schedules
