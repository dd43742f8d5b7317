"""Reads training parameters of SuperGradients, and makes a recipe of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from ...schedules.checks import finite, shown, whole
from .averaging import read_averaging
from .file import read_recipe
from .interpolation import plain
from .optimizer import named, optimizer_params
from .options import EPOCH_WARMUP, Options, read_options
from .rates import rates_of, read_rates, schedules_of
from .recipe import SuperGradientsRecipe
from .report import VERSION, left_to_you, of_no_concern, unknown
from .torch_timeline import torch_momentum


def from_super_gradients(
    training_params: Mapping[str, Any] | str | Path,
    steps_per_epoch: int,
    *,
    faithful: bool = True,
) -> SuperGradientsRecipe:
    """Convert the training parameters of SuperGradients into base rates and schedules.

    Takes the mapping passed to ``Trainer.train(training_params=...)`` as it is, or the path of a
    recipe, and reads from it ``initial_lr``, ``max_epochs``, ``batch_accumulate``, ``warmup_mode``,
    ``lr_warmup_epochs``, ``lr_warmup_steps``, ``warmup_initial_lr``, ``lr_cooldown_epochs``,
    ``lr_mode``, ``lr_updates``, ``step_lr_update_freq``, ``lr_decay_factor``,
    ``cosine_final_lr_ratio``, ``lr_schedule_function``, ``finetune``, ``optimizer``,
    ``optimizer_params``, ``zero_weight_decay_on_bias_and_bn``, ``ema`` and ``ema_params``; what is
    absent has SuperGradients' default. ``print(recipe)`` says what became of them and of all
    others. Deprecated names (``linear_epoch_step``, ``cosine``, ...) mean what
    they mean there; ``warmup_mode=None``, which it documents but refuses, means no warm-up.
    SuperGradients has no default for ``lr_decay_factor``; here it is 0.1.

    Schedules count **optimizer steps**. SuperGradients steps after every ``batch_accumulate``-th
    batch, counted through all epochs: step ``t`` follows batch ``(t + 1) * batch_accumulate - 1``,
    may gather gradients from two epochs, and batches left over at the end of training are never
    applied. So there are ``max_epochs * steps_per_epoch // batch_accumulate`` steps.

    With ``faithful=True`` the rate at every step is the one that SuperGradients 3.7.1 applies. With
    L batches per epoch, W warm-up epochs, C cooldown epochs, E epochs in all and
    ``batch_accumulate=1``, ``i = t - W * L`` being the batches since the warm-up:

    - LinearEpochLRWarmup, epochs ``e = 0 ... W``: ``start + e * (initial_lr - start) / W``, by
      default from ``initial_lr / (1 + W)``: with W=3 and L=1 the first rates are 1/4, 1/2 and 3/4.
    - LinearBatchLRWarmup, ``S = min(lr_warmup_steps, L)`` steps:
      ``start + t * (initial_lr - start) / (S - 1)``, which reaches ``initial_lr`` at ``t = S - 1``.
      The schedulers count its steps as theirs, only Cosine waits. One step alone (S = 1) stays at
      ``start`` until a scheduler assigns something else.
    - Poly, Cosine, Exponential and Function are worked out after a step and used at the next: the
      first step of epoch W has ``initial_lr``, and so has the second (``i = 1``). With
      ``u = i - 1``: Poly ``(1 - u / (L (E - W - C)))^0.9``, Exponential
      ``lr_decay_factor^(u / L)``, Cosine
      ``r + (1 - r) (1 + cos(pi (u - s) / (L (E - W - C) - s + 1))) / 2`` with
      ``s = lr_warmup_steps`` (not capped), ``u - s`` at least 0, and ``r = cosine_final_lr_ratio``.
    - Step assigns when an epoch ends: an update at epoch ``x`` is in force from epoch ``x + 1``,
      none before epoch ``W + 1``.
    - Cooldown, the last C epochs, keeps the last rate worked out. Step ignores it, except that
      updates made from ``step_lr_update_freq`` end before; Cosine ignores it, and the warm-up's
      epochs, if ``lr_warmup_steps > 0``.

    ``faithful=False`` keeps these formulas and lengths and removes the accidents:

    - every scheduler is used at the step it is worked out for (``u = i``), Step from epoch ``x``;
    - with ``batch_accumulate`` formulas take the position of a step's first batch,
      ``t * batch_accumulate``, and a step across two epochs belongs to the later one;
    - cooldown keeps the rate of the step before it;
    - Cosine keeps to the warm-up's epochs and the cooldown with ``lr_warmup_steps`` too;
    - after any warm-up the rate is ``initial_lr``, also after one of a single step.

    After the last step the last rate holds.

    ``lr_mode`` may be a mapping to one of torch's schedulers, as
    ``{"StepLR": {"step_size": 30, "phase": "TRAIN_EPOCH_END"}}``: stepped as an epoch starts or
    ends, after a step (``TRAIN_BATCH_STEP``) or before it (``TRAIN_BATCH_END``), from epoch W on,
    over the rate that the warm-up has left. With ``faithful=False`` each keeps to its own course.
    ReduceLROnPlateau stays yours to step: it scales the base of what `optimizer` returns.

    Args:
        training_params: Training parameters, an OmegaConf config too. Or the path of a recipe in
            YAML or JSON, whole or with the training parameters alone: it means what it means there,
            files named under ``defaults`` included, and ``${...}`` where OmegaConf is installed.
        steps_per_epoch: Batches per epoch, ``len(train_loader)``, whatever ``batch_accumulate``.
        faithful: Whether to reproduce SuperGradients 3.7.1 to the step.

    Returns:
        Base rates and schedules, by the keys of ``initial_lr`` (``"default"`` for a number), and
        the optimizer.

    Raises:
        TypeError: A value of the wrong type.
        OSError: The recipe, or a file that its ``defaults`` name, cannot be read.
        ValueError: A value out of range; a misspelt name; a file that is no recipe; an unknown
            mode or scheduler class; ``max_train_batches`` that cuts epochs short; lengths with
            which SuperGradients divides by zero or its rates turn complex.

    Source:
        SuperGradients 3.7.1: training/params.py, training/sg_trainer/sg_trainer.py,
        training/utils/callbacks/callbacks.py. Warm-up after Goyal et al. 2017 (arXiv:1706.02677),
        section 2.2.

    Example:
        >>> training_params = {
        ...     "initial_lr": 0.4, "lr_warmup_epochs": 3, "lr_mode": "StepLRScheduler",
        ...     "lr_updates": [4], "max_epochs": 7, "loss": "CrossEntropyLoss",
        ... }
        >>> recipe = from_super_gradients(training_params, steps_per_epoch=2)
        >>> [round(recipe.lr_at(t), 4) for t in range(14)]
        [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.4, 0.4, 0.04, 0.04, 0.04, 0.04]
        >>> print(recipe.lr, recipe.schedule)
        0.4 Schedule(0: poly 0.25 -> 1 in 6; 6: 1; 10: 0.1; steps=14)
        >>> sane = from_super_gradients(training_params, steps_per_epoch=2, faithful=False)
        >>> [round(sane.lr_at(t), 4) for t in (7, 8)]
        [0.4, 0.04]
    """
    if isinstance(training_params, str | Path):
        params: Any = read_recipe(Path(training_params))
    else:
        params = plain(training_params)
    batches = whole("steps_per_epoch", steps_per_epoch, 1)
    options = read_options(params, batches, faithful)
    initial_lr, starts = _rates(params, options)
    norm = params.get("clip_grad_norm")
    return SuperGradientsRecipe(
        initial_lr,
        schedules_of(options, initial_lr, starts),
        options.total_steps,
        _summary(options, initial_lr, starts),
        optimizer_params(params),
        read_averaging(params, options),
        momentum_cycle=torch_momentum(options, options.torch_mode) if options.torch_mode else {},
        named=named(params),
        zero_weight_decay_on_bias_and_bn=bool(params.get("zero_weight_decay_on_bias_and_bn")),
        clip_grad_norm=None
        if norm is None
        else finite("clip_grad_norm", norm, 0.0, exclusive=True),
        batch_accumulate=options.batch_accumulate,
        mixed_precision=bool(params.get("mixed_precision")),
        finetune=bool(params.get("finetune")),
        left=left_to_you(params, options.torch_mode),
        of_no_concern=of_no_concern(params),
        unknown=unknown(params),
        _options=options if params.get("finetune") else None,
    )


def _rates(
    params: Mapping[str, Any], options: Options
) -> tuple[dict[str, float], dict[str, float]]:
    """Each group's base rate, and the factor on it at which its warm-up starts."""
    given, optimizer = params.get("initial_lr"), named(params)
    if isinstance(optimizer, Optimizer):
        if given is not None:
            raise ValueError(
                f"initial_lr={shown(given)} and an optimizer that exists, whose groups have their "
                "rates: set initial_lr to None, or give optimizer a class"
            )
        given = rates_of(optimizer)
    if params.get("finetune") and isinstance(given, Mapping):
        raise ValueError(
            f"finetune=True with initial_lr={shown(dict(given))}, it takes one rate to the model's "
            "get_finetune_lr_dict: set initial_lr to a number, or finetune to False"
        )
    return read_rates(given, options, existing=isinstance(optimizer, Optimizer))


def _summary(options: Options, initial_lr: dict[str, float], starts: dict[str, float]) -> str:
    """What was converted, in words."""
    rates = {name: f"{lr:g}" for name, lr in initial_lr.items()}
    parts = []
    if options.warmup_length:
        first = {name: f"{lr * starts[name]:g}" for name, lr in initial_lr.items()}
        unit = "epochs" if options.warmup_mode == EPOCH_WARMUP else "batches"
        length = f"{options.warmup_length:g} {unit}"
        parts.append(f"{options.warmup_mode} over {length} from {_by_name(first)}")
    by_torch = f"torch's {options.torch_mode}" if options.torch_mode else None
    parts.append(options.lr_mode or by_torch or "constant rate")
    if options.lr_cooldown_epochs:
        unheeded = ", which no torch scheduler heeds" if options.torch_mode else ""
        parts.append(f"cooldown of {options.lr_cooldown_epochs:g} epochs{unheeded}")
    length = f"{options.max_epochs} epochs of {options.steps_per_epoch} batches"
    if options.batch_accumulate > 1:
        length += f", {options.batch_accumulate} to a step"
    kind = "step by step" if options.faithful else "without its lag"
    return (
        f"{VERSION} {kind}: {', '.join(parts)}; initial_lr {_by_name(rates)}; "
        f"{options.total_steps} optimizer steps ({length})"
    )


def _by_name(values: dict[str, str]) -> str:
    if len(values) == 1:
        return next(iter(values.values()))
    return "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"
