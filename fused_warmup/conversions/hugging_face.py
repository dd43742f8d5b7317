"""Hugging Face's schedules, by the names and arguments of transformers.get_scheduler."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch.optim import Optimizer

from ..schedules.checks import finite, whole
from ..schedules.schedule import Schedule
from .hugging_face_curves import BUILDERS, LAMBDAS

METRIC_DRIVEN = ("reduce_lr_on_plateau", "greedy")


def get_schedule(
    name: str,
    num_warmup_steps: float | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
    *,
    lr: float | None = None,
    **kwargs: Any,
) -> Schedule:
    """Return the schedule that transformers.get_scheduler(name, ...) gives its optimizer.

    ``lr * schedule(t)`` is Hugging Face's rate at every step, with its warm-ups from 0: ``t / W``
    for ``t < W``. "cosine" therefore starts 0, 1/W, 2/W.

    Args:
        name: "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts",
            "polynomial", "inverse_sqrt", "cosine_with_min_lr", "cosine_warmup_with_min_lr" or
            "warmup_stable_decay" (a transformers.SchedulerType, too).
        num_warmup_steps: Steps of the warm-up; a float below 1 is the part of the training that it
            takes, rounded up, as in TrainingArguments' ``warmup_steps``.
        num_training_steps: Steps of the training, warm-up included.
        scheduler_specific_kwargs: What get_scheduler takes under this name.
        lr: The optimizer's learning rate, where an argument is an absolute rate: ``lr_end`` of
            "polynomial" and ``min_lr``.
        **kwargs: The same as scheduler_specific_kwargs: ``num_cycles``, ``power``, ``lr_end``,
            ``timescale``, ``min_lr``, ``min_lr_rate``, ``warmup_lr_rate``, ``num_decay_steps``,
            ``num_stable_steps``, ``warmup_type``, ``decay_type``, ``min_lr_ratio``.

    Returns:
        A schedule of ``num_training_steps`` steps, endless without.

    Raises:
        TypeError: An argument that the name does not take, or one that it needs and lacks.
        ValueError: An unknown or metric-driven name, or a value out of range.

    Source:
        transformers/optimization.py, as of transformers 5.

    Example:
        >>> get_schedule("linear", num_warmup_steps=2, num_training_steps=6)(range(7))
        [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
        >>> print(get_schedule("cosine_with_min_lr", 2, 6, min_lr_rate=0.1))
        Schedule(0: poly 0 -> 1 in 2; 2: cos 1 -> 0.1 in 4, every 8, on and on; steps=6)
    """
    name = str(getattr(name, "value", name))
    if name in METRIC_DRIVEN:
        raise ValueError(
            f"{name!r} follows a metric, which a schedule cannot: build the scheduler itself with "
            'the fused optimizer, whose group["lr"] it may set'
        )
    if name not in BUILDERS:
        raise ValueError(f"name={name!r} is unknown: use one of {', '.join(map(repr, BUILDERS))}")
    if isinstance(num_warmup_steps, Optimizer) or "optimizer" in kwargs:
        raise TypeError(
            "got an optimizer, which transformers.get_scheduler takes and this does not: leave it "
            "out, as in get_schedule(name, num_warmup_steps, num_training_steps)"
        )
    arguments = {**(scheduler_specific_kwargs or {}), **kwargs}
    if num_warmup_steps is not None:
        arguments["num_warmup_steps"] = _warmup_steps(num_warmup_steps, num_training_steps)
    if num_training_steps is not None:
        arguments["num_training_steps"] = num_training_steps
    for key, value in {**arguments, "lr": lr}.items():
        if isinstance(value, bool):
            raise TypeError(f"{key} must be a number, got {value}: pass a number, not a flag")
    _make_relative(name, arguments, lr)
    if name == "constant":  # get_scheduler drops whatever comes with it
        arguments = {}
    if name == "constant_with_warmup":
        arguments.pop("num_training_steps", None)
    if name == "inverse_sqrt":
        arguments.pop("num_training_steps", None)
    try:
        schedule = BUILDERS[name](**arguments)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        said = str(error).partition("() ")[2]
        raise TypeError(f"{name!r}: {said}, see transformers.get_scheduler for its own") from None
    if num_training_steps is None:
        return schedule
    return schedule.lasting(whole("num_training_steps", num_training_steps, 1))


def _warmup_steps(steps: float, training: int | None) -> float:
    """Return a number of steps, of which a part of the training may have been given."""
    if isinstance(steps, bool):
        return steps  # refused with all other flags
    if not isinstance(steps, float):
        return whole("num_warmup_steps", steps)
    if steps.is_integer():
        return int(steps)
    if not 0.0 < steps < 1.0:
        return whole("num_warmup_steps", steps, 0)  # type: ignore[arg-type]  # which raises
    if training is None:
        raise TypeError(
            f"num_warmup_steps={steps} is a fraction of the training, whose length is missing: "
            "pass num_training_steps=, or whole steps"
        )
    return math.ceil(whole("num_training_steps", training, 1) * steps)


def _make_relative(name: str, arguments: dict[str, Any], lr: float | None) -> None:
    """Turn absolute rates into factors, as Hugging Face does with ``optimizer.defaults["lr"]``."""
    if name == "polynomial":
        arguments.setdefault("lr_end", 1e-7)
    for absolute in ("lr_end", "min_lr"):
        if arguments.get(absolute) is None:
            arguments.pop(absolute, None)
            continue
        if lr is None:
            raise TypeError(
                f"{name!r} has the absolute rate {absolute}={arguments[absolute]!r}: pass lr=, the "
                "learning rate of the optimizer, too"
            )
        base = finite("lr", lr, 0.0, exclusive=True)
        value = finite(absolute, arguments.pop(absolute), 0.0)
        if absolute == "min_lr":
            if arguments.get("min_lr_rate") is not None:
                raise ValueError("got both min_lr and min_lr_rate: pass one of them")
            arguments["min_lr_rate"] = value / base
        else:
            if not base > value:
                raise ValueError(f"lr_end={value} must be below lr={base}: lower it")
            arguments["end"] = value / base


def recognise(fn: Any) -> Schedule | None:
    """Return the schedule of a LambdaLR's function that transformers made, None for any other."""
    keywords: dict[str, Any] = {}
    if isinstance(fn, partial):
        if fn.args:
            return None
        fn, keywords = fn.func, dict(fn.keywords)
    if getattr(fn, "__module__", None) != "transformers.optimization":
        return None
    builder = LAMBDAS.get(getattr(fn, "__name__", ""))
    try:
        return builder(**keywords) if builder else None
    except (TypeError, ValueError):  # of another version, or of values that it would fail on, too
        return None
