"""What training parameters say of averaging the weights: ``ema`` and ``ema_params``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...schedules.averages import ema_ramp, ema_threshold
from ...schedules.checks import finite, shown
from ...schedules.schedule import Schedule
from .options import Options

DECAY, BETA = 0.9999, 15.0
"""SuperGradients' defaults."""
DECAY_TYPES = ("constant", "threshold", "exp")


def read_averaging(training_params: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Return the options of `SGD` that average as SuperGradients does; none without ``ema``.

    It counts batches from 1, of which each update of the optimizer has ``batch_accumulate``.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A value out of its range, an unknown type of decay.
    """
    if not training_params.get("ema"):
        return {}
    given = training_params.get("ema_params") or {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"ema_params={shown(given)} is a {type(given).__name__}, it must be a mapping with "
            "'decay', 'decay_type' and 'beta': pass one, or ema=False"
        )
    decay = finite("decay of ema_params", _given(given, "decay", DECAY), 0.0, 1.0)
    kind = _given(given, "decay_type", "exp")
    if "exp_activation" in given:  # the name of old recipes, which wins over the new one
        kind = "exp" if given["exp_activation"] else "constant"
    if kind not in DECAY_TYPES:
        raise ValueError(
            f"decay_type={shown(kind)} of ema_params is unknown, it must be one of "
            f"{', '.join(map(repr, DECAY_TYPES))}: use one of these, or set ema_schedule yourself"
        )
    batches = options.batch_accumulate
    if kind == "constant" or decay == 0:
        return {"ema_decay": decay}
    if kind == "threshold":
        schedule = ema_threshold(decay, count_from=1, per_step=batches)
    else:
        beta = finite("beta of ema_params", _given(given, "beta", BETA), 0.0, exclusive=True)
        steps = options.max_epochs * options.steps_per_epoch / batches
        schedule = ema_ramp(steps, beta, count_from=1)
    return {"ema_decay": decay, "ema_schedule": schedule}


def _given(params: Mapping[str, Any], name: str, default: Any) -> Any:
    value = params.get(name)
    return default if value is None else value


def averaged_model(model: torch.nn.Module, averaging: Mapping[str, Any]) -> Any:
    """Return torch's AveragedModel over a model, with the decays of a recipe.

    It starts as a copy, as SuperGradients' does: torch's own would copy the first update.
    """
    update: Any = Update(averaging["ema_decay"], averaging.get("ema_schedule"))
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=update, use_buffers=True
    ).eval()
    averaged.n_averaged.fill_(1)
    return averaged


@dataclass(frozen=True)
class Update:
    """One update of the averages, ``ema * decay + (1 - decay) * value``, integers left alone."""

    decay: float
    schedule: Schedule | None

    @torch.no_grad()
    def __call__(self, averages: list[Tensor], values: list[Tensor], count: Any) -> None:
        """Update averages; ``count`` is 1 for the first."""
        if not averages[0].is_floating_point():
            return
        factor = 1.0 if self.schedule is None else self.schedule(int(count) - 1)
        decay = self.decay * factor
        torch._foreach_mul_(averages, decay)
        torch._foreach_add_(averages, values, alpha=1.0 - decay)
