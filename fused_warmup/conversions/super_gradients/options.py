"""Reads SuperGradients' training parameters and refuses what has no meaning there or here."""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ...schedules.checks import finite, whole
from .names import KNOWN, RATES, TAKEN
from .torch_mode import TorchMode, read_torch_mode

EPOCH_WARMUP, BATCH_WARMUP = "LinearEpochLRWarmup", "LinearBatchLRWarmup"
STEP, POLY, COSINE = "StepLRScheduler", "PolyLRScheduler", "CosineLRScheduler"
EXPONENTIAL, FUNCTION = "ExponentialLRScheduler", "FunctionLRScheduler"

WARMUP_MODES = {
    EPOCH_WARMUP: EPOCH_WARMUP,
    "linear_epoch_step": EPOCH_WARMUP,
    BATCH_WARMUP: BATCH_WARMUP,
    "linear_batch_step": BATCH_WARMUP,
}
LR_MODES = {
    STEP: STEP,
    "step": STEP,
    POLY: POLY,
    "poly": POLY,
    COSINE: COSINE,
    "cosine": COSINE,
    EXPONENTIAL: EXPONENTIAL,
    "exp": EXPONENTIAL,
    FUNCTION: FUNCTION,
    "function": FUNCTION,
}
MAX_UPDATES = 10_000
"""Most epochs at which Step decays."""


@dataclass(frozen=True, slots=True)
class Options:
    """The training parameters that move the learning rate, checked; lengths as SuperGradients'."""

    steps_per_epoch: int
    """Batches per epoch, ``len(train_loader)``."""
    batch_accumulate: int
    max_epochs: int
    warmup_mode: str | None
    lr_warmup_epochs: float
    lr_warmup_steps: int
    lr_cooldown_epochs: float
    lr_mode: str | None
    lr_updates: tuple[float, ...]
    lr_decay_factor: float
    cosine_final_lr_ratio: float
    lr_schedule_function: Callable[..., Any] | None
    torch_mode: TorchMode | None
    warmup_initial_lr: Any
    """As given: a rate, a rate by group or None."""
    faithful: bool

    @property
    def lag(self) -> int:
        """Optimizer steps between working out a rate and using it."""
        return int(self.faithful)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training; the last, incomplete accumulation has none."""
        return self.step_at(self.max_epochs)

    @property
    def scheduled_epochs(self) -> float:
        """Epochs between warm-up and cooldown."""
        return self.max_epochs - self.lr_warmup_epochs - self.lr_cooldown_epochs

    @property
    def warmup_length(self) -> float:
        """Length of the warm-up in its own unit, epochs or batches; 0 for none.

        The batch warm-up ends with the first epoch at the latest.
        """
        if self.warmup_mode == EPOCH_WARMUP:
            return self.lr_warmup_epochs
        if self.warmup_mode == BATCH_WARMUP:
            return min(self.lr_warmup_steps, self.steps_per_epoch)
        return 0

    def step_at(self, epoch: int) -> int:
        """The first optimizer step whose last batch lies in ``epoch`` or later."""
        return epoch * self.steps_per_epoch // self.batch_accumulate


def read_options(
    training_params: Mapping[str, Any], steps_per_epoch: int, faithful: bool
) -> Options:
    """Return the checked options; see `fused_warmup.from_super_gradients` for the errors."""
    if not isinstance(training_params, Mapping):
        raise TypeError(
            f"training_params must be a mapping, got {type(training_params).__name__}: pass the "
            "dict given to Trainer.train, .to_dict() of a TrainingParams object or a recipe's path"
        )
    if "max_epochs" not in training_params:
        needed = ("max_epochs", "initial_lr")
        lacking = " and ".join(name for name in needed if training_params.get(name) is None)
        raise ValueError(f"training_params lacks {lacking}, which have no default: add them")
    params = {**RATES, **training_params}
    _refuse_misspelt(training_params)
    _refuse_cut_epochs(params["max_train_batches"], steps_per_epoch)
    of_torch = isinstance(params["lr_mode"], Mapping)
    lr_mode = None if of_torch else _mode("lr_mode", params["lr_mode"], LR_MODES)
    warmup_epochs = finite("lr_warmup_epochs", params["lr_warmup_epochs"], 0.0)
    cooldown_epochs = finite("lr_cooldown_epochs", params["lr_cooldown_epochs"], 0.0)
    function = params["lr_schedule_function"]
    if lr_mode == FUNCTION and not callable(function):
        raise TypeError(
            f"lr_mode={FUNCTION!r} needs a callable lr_schedule_function, got {function!r}: pass a "
            "function of initial_lr, epoch, iter, max_epoch and iters_per_epoch"
        )
    max_epochs = whole("max_epochs", params["max_epochs"], 1)
    options = Options(
        steps_per_epoch=steps_per_epoch,
        batch_accumulate=whole("batch_accumulate", params["batch_accumulate"], 1),
        max_epochs=max_epochs,
        warmup_mode=_mode("warmup_mode", params["warmup_mode"], WARMUP_MODES),
        lr_warmup_epochs=_int_if_whole(warmup_epochs),
        lr_warmup_steps=whole("lr_warmup_steps", params["lr_warmup_steps"], 0),
        lr_cooldown_epochs=_int_if_whole(cooldown_epochs),
        lr_mode=lr_mode,
        lr_updates=_updates(params, max_epochs, warmup_epochs, cooldown_epochs)
        if lr_mode == STEP
        else (),
        lr_decay_factor=finite("lr_decay_factor", params["lr_decay_factor"], 0.0),
        cosine_final_lr_ratio=finite("cosine_final_lr_ratio", params["cosine_final_lr_ratio"], 0.0),
        lr_schedule_function=function,
        torch_mode=read_torch_mode(params["lr_mode"]) if of_torch else None,
        warmup_initial_lr=params["warmup_initial_lr"],
        faithful=faithful,
    )
    if options.total_steps == 0:
        raise ValueError(
            f"batch_accumulate={options.batch_accumulate} exceeds the "
            f"{max_epochs * steps_per_epoch} batches of the whole training, the optimizer would "
            "never step: lower batch_accumulate or raise max_epochs"
        )
    return options


def _refuse_misspelt(training_params: Mapping[str, Any]) -> None:
    """A parameter that nobody has is said in the summary; one nearly of a known name is refused."""
    for name in training_params:
        near = difflib.get_close_matches(str(name), TAKEN, 1, cutoff=0.9)
        if near and name not in KNOWN:
            raise ValueError(f"{name!r} is no parameter of SuperGradients: did you mean {near[0]}?")


def _refuse_cut_epochs(limit: Any, steps_per_epoch: int) -> None:
    if limit is not None and whole("max_train_batches", limit, 1) < steps_per_epoch:
        raise ValueError(
            f"max_train_batches={limit} cuts epochs of steps_per_epoch={steps_per_epoch} short, "
            "SuperGradients then skips part of the schedule in every epoch, which this cannot "
            "follow: set max_train_batches to None"
        )


def _mode(name: str, mode: object, modes: Mapping[str, str]) -> str | None:
    if mode is None:
        return None
    if isinstance(mode, type):
        if mode.__name__ == BATCH_WARMUP:
            raise ValueError(
                f"{name} is the class {BATCH_WARMUP}, which SuperGradients takes by name only and "
                f"otherwise ignores: pass {BATCH_WARMUP!r} for this warm-up or None for none"
            )
        mode = mode.__name__
    if not isinstance(mode, str) or mode not in modes:
        raise ValueError(
            f"{name} must be one of {list(modes)} or None, got {mode!r}: use one of these, or "
            "sample a class of your own with schedules.from_callable"
        )
    return modes[mode]


def _updates(
    params: Mapping[str, Any], max_epochs: int, warmup_epochs: float, cooldown_epochs: float
) -> tuple[float, ...]:
    """The epochs after which Step decays: as given, or every ``step_lr_update_freq`` epochs."""
    given, every = params["lr_updates"], params["step_lr_update_freq"]
    if isinstance(given, Mapping):
        raise TypeError(
            f"lr_updates={dict(given)!r} is a call that Hydra makes: pass the path of the recipe, "
            "or the list of epochs that the call returns"
        )
    listed = () if given is None else tuple(islice(given, MAX_UPDATES + 1))
    _check_updates(len(listed))
    updates = tuple(finite("lr_updates", update) for update in listed)
    if not every:
        if every is None and not updates:
            raise ValueError(
                f"lr_mode={STEP!r} got neither lr_updates nor step_lr_update_freq, one is needed: "
                "pass the epochs to decay at, or lr_mode=None for a constant rate"
            )
        return updates
    if updates:
        raise ValueError(
            f"got lr_updates={list(updates)} and step_lr_update_freq={every!r}, they exclude each "
            "other: set lr_updates to [] or step_lr_update_freq to None"
        )
    every = finite("step_lr_update_freq", every)
    end = max_epochs - cooldown_epochs
    most = math.ceil(end) - 1
    if every > 0.0 and most > end / every:
        most = math.ceil(end / every)
    _check_updates(most)
    rounded = (math.ceil(every * count) for count in range(1, most + 1))
    return tuple(epoch for epoch in rounded if warmup_epochs <= epoch < end)


def _check_updates(count: int) -> None:
    if count > MAX_UPDATES:
        raise ValueError(
            f"{STEP} has at most {MAX_UPDATES} updates, lr_updates or step_lr_update_freq ask for "
            "more: decay less often"
        )


def _int_if_whole(number: float) -> float:
    """Whole numbers as int, so that products with counts of batches are exact."""
    return int(number) if float(number).is_integer() else number
