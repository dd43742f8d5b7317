"""Reads the base rates of SuperGradients' parameter groups and where their warm-up starts."""

from collections.abc import Mapping
from typing import Any

from ...schedules.checks import finite
from .options import BATCH_WARMUP, DEFAULTS, Options


def read_rates(
    training_params: Mapping[str, Any], options: Options
) -> tuple[dict[str, float], dict[str, float]]:
    """Return each group's base rate and the factor on it at which its warm-up starts."""
    params = {**DEFAULTS, **training_params}
    given, start = params["initial_lr"], params["warmup_initial_lr"]
    if given is None:
        raise ValueError(
            "initial_lr is None, the base rates are needed: pass a number, or for an optimizer "
            "built beforehand {group['name']: group['lr'] for group in optimizer.param_groups}"
        )
    by_name = given if isinstance(given, Mapping) else {"default": given}
    if "default" not in by_name:
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
