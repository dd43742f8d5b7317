"""Learning rates of SuperGradients' training parameters, step by step."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..._advice import advise
from ...schedules.checks import whole
from ...schedules.schedule import Schedule
from ...schedules.segment import Segment
from .averaging import read_averaging
from .file import read_recipe
from .left import left_to_you
from .options import EPOCH_WARMUP, Options, read_options
from .rates import read_rates
from .timeline import timeline


@dataclass(frozen=True, slots=True)
class SuperGradientsRecipe:
    """Base rates and schedules by the name of the parameter group, from `from_super_gradients`.

    The rate of a group at optimizer step ``t`` is ``initial_lr[name] * schedules[name](t)``. A
    group whose initial_lr is 0 is frozen: its rate is 0 throughout.

    Args:
        initial_lr: Base rate of each group; ``"default"`` holds all that no other group names.
        schedules: Factor on the base rate, one schedule per group.
        steps: Optimizer steps of the whole training.
        summary: What was converted, in words; also what ``str()`` gives.
        optimizer_params: What the training parameters give the optimizer beside its rate; it is in
            no group and no schedule: ``SGD(groups, **recipe.optimizer_params)``.
        averaging: The options that average as ``ema`` and ``ema_params`` say, of parameters alone:
            ``SGD(groups, **recipe.optimizer_params, **recipe.averaging)``. Empty without ``ema``.
    """

    initial_lr: dict[str, float]
    schedules: dict[str, Schedule]
    steps: int
    summary: str
    optimizer_params: dict[str, Any] = field(default_factory=dict)
    averaging: dict[str, Any] = field(default_factory=dict)

    @property
    def lr(self) -> float:
        """The base rate, where there is one group.

        Raises:
            ValueError: There are several groups.
        """
        return self.initial_lr[self._only()]

    @property
    def schedule(self) -> Schedule:
        """The schedule, where there is one group.

        Raises:
            ValueError: There are several groups.
        """
        return self.schedules[self._only()]

    def _only(self) -> str:
        if len(self.initial_lr) > 1:
            raise ValueError(
                f"there are {len(self.initial_lr)} groups {list(self.initial_lr)}, .lr and "
                ".schedule need a single one: use .initial_lr[name] and .schedules[name], or "
                ".param_groups(model.named_parameters())"
            )
        return next(iter(self.initial_lr))

    def lr_at(self, t: int, group: str = "default") -> float:
        """Return the learning rate of ``group`` at optimizer step ``t``, counted from 0."""
        return self.initial_lr[group] * self.schedules[group](t)

    def param_groups(
        self, named_parameters: Iterable[tuple[str, torch.nn.Parameter]]
    ) -> list[dict[str, Any]]:
        """Return optimizer groups with ``params``, ``name``, ``lr`` and ``schedule``.

        As in SuperGradients, a group takes the parameters whose names start with its own name, and
        ``default``, which comes last, the others that require gradients. Parameters of a group
        whose rate is 0 are frozen (``requires_grad = False``) and left out.

        Args:
            named_parameters: ``model.named_parameters()``.

        Raises:
            ValueError: A group without parameters, or a parameter in two groups.

        Example:
            >>> params = {"initial_lr": {"default": 0.1, "0.": 0.01}, "max_epochs": 1}
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
            >>> recipe = from_super_gradients(params, steps_per_epoch=10)
            >>> groups = recipe.param_groups(model.named_parameters())
            >>> [(group["name"], group["lr"], len(group["params"])) for group in groups]
            [('0.', 0.01, 2), ('default', 0.1, 2)]
        """
        prefixes = [name for name in self.initial_lr if name != "default"]
        members: dict[str, list[torch.nn.Parameter]] = {name: [] for name in prefixes}
        members["default"] = []
        for name, parameter in named_parameters:
            owners = [prefix for prefix in prefixes if name.startswith(prefix)]
            if len(owners) > 1:
                raise ValueError(
                    f"parameter {name!r} belongs to the groups {owners}, only one may own it: "
                    "choose names in initial_lr of which none begins another"
                )
            if owners or not prefixes or parameter.requires_grad:
                members[owners[0] if owners else "default"].append(parameter)
        groups = []
        for name, parameters in members.items():
            if not parameters and name != "default":
                raise ValueError(
                    f"no parameter's name starts with {name!r}, a group of initial_lr: correct the "
                    "name or drop it"
                )
            if prefixes and self.initial_lr[name] == 0.0:
                for parameter in parameters:
                    parameter.requires_grad_(False)
            elif parameters:
                schedule, lr = self.schedules[name], self.initial_lr[name]
                groups.append({"params": parameters, "name": name, "lr": lr, "schedule": schedule})
        return groups

    def __str__(self) -> str:
        return self.summary


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
    ``cosine_final_lr_ratio``, ``lr_schedule_function``, ``ema`` and ``ema_params``; what is absent
    has SuperGradients' default. Deprecated names (``linear_epoch_step``, ``cosine``, ...) mean what
    they mean there; ``warmup_mode=None``, which it documents but refuses, means no warm-up.
    SuperGradients has no default for ``lr_decay_factor``; here it is 0.1. Optimizer, momentum and
    weight decay stay with you, and a warning says so where ``optimizer_params`` or
    ``zero_weight_decay_on_bias_and_bn`` would be lost.

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

    Args:
        training_params: Training parameters; those of no concern to the learning rate are ignored.
            Or the path of a recipe in YAML or JSON, whole or with the training parameters alone:
            it means what it means there, files named under ``defaults`` included.
        steps_per_epoch: Batches per epoch, ``len(train_loader)``, whatever ``batch_accumulate``.
        faithful: Whether to reproduce SuperGradients 3.7.1 to the step.

    Returns:
        Base rates and schedules, by the keys of ``initial_lr`` (``"default"`` for a number).

    Raises:
        TypeError: A value of the wrong type.
        OSError: The recipe, or a file that its ``defaults`` name, cannot be read.
        ValueError: A value out of range; a misspelt name; a file that is no recipe; an unknown or
            unsupported mode (torch schedulers, custom classes); ``max_train_batches`` that cuts
            epochs short; ``finetune``; lengths with which SuperGradients divides by zero or its
            rates turn complex.

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
        training_params = read_recipe(Path(training_params))
    batches = whole("steps_per_epoch", steps_per_epoch, 1)
    options = read_options(training_params, batches, faithful)
    initial_lr, starts = read_rates(training_params, options)
    schedules = {}
    for name, lr in initial_lr.items():
        if lr > 0.0:
            schedules[name] = timeline(options, lr, starts[name])
        else:
            schedules[name] = Schedule((Segment.constant(1.0),), options.total_steps)
    for_you = left_to_you(training_params)
    summary = _summary(options, initial_lr, starts) + for_you.summary
    if for_you.warning:
        advise(for_you.warning)
    params = for_you.optimizer_params
    averaging = read_averaging(training_params, options)
    return SuperGradientsRecipe(
        initial_lr, schedules, options.total_steps, summary, params, averaging
    )


def _summary(options: Options, initial_lr: dict[str, float], starts: dict[str, float]) -> str:
    """What was converted, in words."""
    rates = {name: f"{lr:g}" for name, lr in initial_lr.items()}
    parts = []
    if options.warmup_length:
        first = {name: f"{lr * starts[name]:g}" for name, lr in initial_lr.items()}
        unit = "epochs" if options.warmup_mode == EPOCH_WARMUP else "batches"
        length = f"{options.warmup_length:g} {unit}"
        parts.append(f"{options.warmup_mode} over {length} from {_by_name(first)}")
    parts.append(options.lr_mode or "constant rate")
    if options.lr_cooldown_epochs:
        parts.append(f"cooldown of {options.lr_cooldown_epochs:g} epochs")
    length = f"{options.max_epochs} epochs of {options.steps_per_epoch} batches"
    if options.batch_accumulate > 1:
        length += f", {options.batch_accumulate} to a step"
    kind = "step by step" if options.faithful else "without its lag"
    return (
        f"SuperGradients 3.7.1 {kind}: {', '.join(parts)}; initial_lr {_by_name(rates)}; "
        f"{options.total_steps} optimizer steps ({length})"
    )


def _by_name(values: dict[str, str]) -> str:
    if len(values) == 1:
        return next(iter(values.values()))
    return "{" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"
