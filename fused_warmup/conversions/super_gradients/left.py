"""What training parameters say of the optimizer beside its rate: it stays with the user."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...schedules.checks import shown


class LeftToYou(NamedTuple):
    """What a conversion of the rates leaves out."""

    optimizer_params: dict[str, Any]
    summary: str
    """What a recipe's summary adds."""
    warning: str
    """What is lost unless somebody passes it on; empty for nothing."""


def left_to_you(training_params: Mapping[str, Any]) -> LeftToYou:
    """Return what the optimizer must be given, too.

    Example:
        >>> left_to_you({"optimizer_params": {"momentum": 0.9}}).summary
        '; left to you: momentum=0.9'
    """
    given = training_params.get("optimizer_params")
    optimizer_params = {str(k): v for k, v in given.items()} if isinstance(given, Mapping) else {}
    names = [f"{name}={shown(value)}" for name, value in optimizer_params.items()]
    advice = ["SGD(..., **recipe.optimizer_params)"] if names else []
    if training_params.get("zero_weight_decay_on_bias_and_bn"):
        names.append("zero_weight_decay_on_bias_and_bn")
        advice.append("fused_warmup.split_weight_decay(model, weight_decay) for the groups")
    if not names:
        return LeftToYou({}, "", "")
    listed = ", ".join(names)
    warning = (
        f"the training parameters say {listed} of the optimizer, which is in no rate and no "
        f"group: pass it on, as in {' and '.join(advice)}"
    )
    return LeftToYou(optimizer_params, f"; left to you: {listed}", warning)
