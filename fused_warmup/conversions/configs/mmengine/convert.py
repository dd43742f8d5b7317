"""MMEngine's ``param_scheduler``, as it stands in configs, as schedules."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ....schedules.checks import finite, listed, shown, whole
from ..converted import ConvertedConfig
from ..reading import block, mapping_of
from .building import Built, Training, build
from .file import read_config
from .timeline import follow


def from_mmengine(
    config: Any,
    *,
    epoch_length: int | None = None,
    lr: float | None = None,
    momentum: float | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
) -> ConvertedConfig:
    """Convert MMEngine's parameter schedulers: ConstantLR, LinearLR, MultiStepLR, StepLR, ...

    Takes the list of dicts that stands in configs as ``param_scheduler``. Each scheduler counts
    its own ``n`` from ``begin``, in epochs or in steps, and changes the rate in force, whoever has
    set it, while ``begin <= count < end``. With N = ``end - begin``, and x the rate at its begin:

    - ConstantLR: ``x * factor``, and x again at ``n = N - 1``.
    - LinearLR: ``x * (start_factor + (end_factor - start_factor) n / (N - 1))``: the last value is
      reached at ``n = N - 1``, a tick before its end.
    - MultiStepLR, StepLR, ExponentialLR: ``x * gamma ** k``, with k the milestones passed,
      ``n // step_size`` or n.
    - QuadraticWarmupLR, MMDetection's: ``b (2 n + 1) / N ** 2`` more at each ``n``, which makes
      ``b ((n + 1) / N) ** 2``, with b the base rate.
    - PolyLR: ``eta_min + (x - eta_min) (1 - n / (N - 1)) ** power``.
    - CosineAnnealingLR: ``eta_min + (x - eta_min) (1 + cos(pi n / T_max)) / 2``, T_max being N by
      default; beyond T_max it rises again. CosineRestartLR: the same over each of ``periods``, from
      the base rate times its restart weight.
    - OneCycleLR: torch's, on ``eta_max``, over ``total_steps`` or N.

    The first three factors of ``dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0,
    end=10)`` are 0.1, 0.2 and 0.3. The ``...Momentum`` twins move the momentum by the same
    formulas. Schedulers that overlap multiply where they can (a warm-up by steps under drops by
    epochs, say); one with an eta_min under a warm-up is a table of the steps that both rule.

    Args:
        config: The list, one scheduler's dict, a whole config (a mapping with ``param_scheduler``)
            or the path of its file. A ``.py`` file is never run: its assignments are read as
            literals, ``dict(...)`` and arithmetic of names that it assigns, over its ``_base_``.
        epoch_length: Updates per epoch, ``len(train_dataloader)``; needed where epochs are counted.
        lr: Base rate; None: that of the config's ``optim_wrapper``. Needed for an eta_min or an
            eta_max.
        momentum: Base momentum, likewise; Adam's is its first beta.
        max_epochs: Epochs of the training: the default of ``end``; None: from ``train_cfg``.
        max_iters: Steps of the training, where it counts these instead.

    Returns:
        ``schedule`` on ``lr``, as long as the training where that is known, and the
        ``momentum_schedule`` of the twins; with a whole config the options of an SGD. ``left``
        holds the rest of ``optim_wrapper``: paramwise_cfg, clip_grad, ...

    Raises:
        TypeError: A value of the wrong type.
        OSError: The file cannot be read.
        ValueError: A scheduler without a schedule (ReduceOnPlateauLR, classes of your own); an
            option that it does not have; a length, lr or momentum that is missing; a value out of
            its range; ``accumulative_counts`` above 1.

    Source:
        mmengine/optim/scheduler/param_scheduler.py, hooks/param_scheduler_hook.py and
        runner/runner.py of MMEngine 0.10.7; mmdet/engine/schedulers/quadratic_warmup.py of
        MMDetection 3.3.0.

    Example:
        >>> param_scheduler = [
        ...     dict(type="LinearLR", start_factor=0.25, by_epoch=False, begin=0, end=4),
        ...     dict(type="MultiStepLR", by_epoch=True, begin=0, end=4, milestones=[2, 3]),
        ... ]
        >>> rates = from_mmengine(param_scheduler, epoch_length=3, lr=0.1)
        >>> [round(rates.lr_at(t), 5) for t in range(10)]
        [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001]
    """
    if isinstance(config, str | Path):
        path = Path(config)
        config = read_config(path) if path.suffix == ".py" else mapping_of(path, "MMEngine")
    schedulers, wrapper, loop = _parts(config)
    optimizer = block(wrapper, "optimizer")
    wrapper.pop("optimizer", None)
    if (wrapper.pop("accumulative_counts", None) or 1) != 1:
        raise ValueError(
            "accumulative_counts makes an update of several iterations, which the schedulers count "
            "each: pass the list alone, with its iterations and epoch_length in updates"
        )
    epochs = max_epochs if max_epochs is not None else loop.get("max_epochs")
    iters = max_iters if max_iters is not None else loop.get("max_iters")
    training = Training(
        None if epoch_length is None else whole("epoch_length", epoch_length, 1),
        None if epochs is None else whole("max_epochs", epochs, 1),
        None if iters is None or epochs is not None else whole("max_iters", iters, 1),
    )
    lr = _given("lr", lr, optimizer.get("lr"))
    beta = next(iter(listed("betas", optimizer.get("betas") or ())), None)
    momentum = _given("momentum", momentum, optimizer.get("momentum", beta))
    rates = build(schedulers, "lr", lr, training)
    momenta = build(schedulers, "momentum", momentum, training)
    is_sgd = optimizer.get("type") in ("SGD", "torch.optim.SGD")
    of_sgd = ("weight_decay", "nesterov", "dampening")
    options = {name: optimizer.pop(name) for name in of_sgd if is_sgd and name in optimizer}
    taken = {"lr", "type", "momentum"} if is_sgd else {"lr"}
    rest = {name: value for name, value in optimizer.items() if name not in taken}
    return ConvertedConfig(
        _summary(rates + momenta),
        follow([each.clocked for each in rates], training.steps),
        lr=lr,
        momentum=momentum if is_sgd or momenta or not optimizer else None,
        momentum_schedule=follow([each.clocked for each in momenta], training.steps)
        if momenta
        else None,
        options=options,
        left={k: v for k, v in wrapper.items() if k != "type"}
        | ({"optimizer": rest} if rest else {}),
    )


def _parts(config: Any) -> tuple[Sequence[Any], dict[str, Any], Mapping[str, Any]]:
    """The schedulers, the optimizer's wrapper and the loop of a config."""
    if isinstance(config, Sequence):
        return config, {}, {}
    given = mapping_of(config, "MMEngine")
    if "type" in given:
        return [given], {}, {}
    schedulers = given.get("param_scheduler")
    if isinstance(schedulers, Mapping) and "type" in schedulers:
        schedulers = [schedulers]
    if "param_scheduler" in given and schedulers is None:
        schedulers = []  # MMEngine's own word for a constant rate
    if not isinstance(schedulers, Sequence):
        raise ValueError(
            f"param_scheduler must be a list of dicts, got {shown(schedulers)}: pass the list of "
            "one optimizer"
        )
    return schedulers, block(given, "optim_wrapper"), block(given, "train_cfg")


def _given(name: str, passed: float | None, own: Any) -> float | None:
    value = own if passed is None else passed
    return None if value is None else finite(name, value, 0.0, exclusive=name == "lr")


def _summary(built: Sequence[Built]) -> str:
    return f"MMEngine's {', '.join(each.clocked.name for each in built) or 'constant rate'}"
