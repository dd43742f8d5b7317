"""What training parameters say of averaging the weights: ``ema`` and ``ema_params``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

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


class Averaged(AveragedModel):
    """torch's AveragedModel with the decays of a recipe, of buffers too.

    It starts as a copy of the model and its first update is an average, as in SuperGradients;
    torch's own copies the first update. Whole numbers stay as they are.

    Args:
        model: The model.
        averaging: `SGD`'s options of averages.
    """

    def __init__(self, model: torch.nn.Module, averaging: Mapping[str, Any]) -> None:
        super().__init__(model, multi_avg_fn=self._average, use_buffers=True)
        self._base: float = averaging["ema_decay"]
        self._schedule: Schedule | None = averaging.get("ema_schedule")
        self._decay = 0.0
        self.n_averaged.fill_(1)
        self.eval()

    def update_parameters(self, model: torch.nn.Module) -> None:
        """Update the averages, after a step of the optimizer."""
        # On the host, where the count is: what torch hands on may be on a device.
        updates = int(self.n_averaged) - 1
        self._decay = self._base * (1.0 if self._schedule is None else self._schedule(updates))
        super().update_parameters(model)

    @torch.no_grad()
    def _average(self, averages: Any, values: Any, count: Any) -> None:
        if averages[0].is_floating_point():
            torch._foreach_mul_(averages, self._decay)
            torch._foreach_add_(averages, values, alpha=1.0 - self._decay)
