"""DeepSpeed's warm-ups, from the ``scheduler`` block of its config or as live objects."""

import math
from collections.abc import Mapping
from typing import Any

from ...schedules.checks import MAX_VALUES, at_most, finite, listed, shown, whole
from ...schedules.schedule import Schedule
from ...schedules.segment import Kind, Segment
from .converted import ConvertedConfig
from .reading import Options, block, mapping_of

COMMON: dict[str, Any] = {
    "warmup_num_steps": 1000,
    "warmup_type": "log",
    "total_num_steps": None,
    "last_batch_iteration": -1,
}
RATES = COMMON | {"warmup_min_lr": 0.0, "warmup_max_lr": None}
RATIOS = COMMON | {"warmup_min_ratio": 0.0, "cos_min_ratio": 0.0001}
DEFAULTS = {
    "WarmupLR": RATES,
    "WarmupDecayLR": RATES | {"warmup_max_lr": 0.001},
    "WarmupCosineLR": RATIOS,
}
"""DeepSpeed 0.19.8's."""


def from_deepspeed(
    config: Any, *, lr: float | None = None, group: int | None = None
) -> ConvertedConfig:
    """Convert DeepSpeed's WarmupLR, WarmupDecayLR or WarmupCosineLR.

    DeepSpeed steps the scheduler after each update that is applied, and its first step says what
    the construction had set: update t has the rate of iteration ``i = max(t - 1, 0)``. With
    W = warmup_num_steps, at least 2, T = total_num_steps, and ``g(i)`` for ``i < W`` being
    ``log(i + 1) / log(W)`` (``warmup_type`` "log", the default) or ``i / W`` ("linear"):

    - WarmupLR: ``min_lr + (max_lr - min_lr) g(i)``, then max_lr.
    - WarmupDecayLR: the same, then ``min_lr + (max_lr - min_lr) (T - i) / (T - W)`` down to min_lr.
    - WarmupCosineLR, as a factor on the optimizer's rate: 0 at t = 0, then
      ``r + (1 - r) g(i)`` with r = warmup_min_ratio, then ``c + (1 - c)(1 + cos(pi x)) / 2`` with
      c = cos_min_ratio and ``x = (i - W + 1) / (T - W)``, at most 1.

    The first three factors of WarmupLR with W=4, linear from 0, are 0, 0, 0.25. The logarithm is a
    table of W values.

    Args:
        config: The whole config, its ``scheduler`` block, the path of the JSON file, or the live
            scheduler, which is left as it is and converted from its start.
        lr: Base rate; None: warmup_max_lr, or for WarmupCosineLR and where that is absent the rate
            of the config's ``optimizer``. Of the live scheduler: its group's highest.
        group: Index of the parameter group, where rates are lists; None: all have the same.

    Returns:
        ``schedule`` on ``lr``, and the options of an ``optimizer`` of type SGD. ``left`` holds what
        the config says beside: another optimizer, gradient clipping, accumulation, precision.

    Raises:
        TypeError: A value of the wrong type; no scheduler of DeepSpeed's.
        OSError: The file cannot be read.
        ValueError: Another scheduler (LRRangeTest, OneCycle, torch's); "auto", which Hugging Face's
            Trainer fills in; a base rate that is missing or 0; groups that differ, with
            ``group=None``; a misspelt name.

    Source:
        deepspeed/runtime/lr_schedules.py and engine.py of DeepSpeed 0.19.8.

    Example:
        >>> config = {
        ...     "scheduler": {
        ...         "type": "WarmupDecayLR",
        ...         "params": {
        ...             "warmup_max_lr": 0.1, "warmup_num_steps": 2, "warmup_type": "linear",
        ...             "total_num_steps": 6,
        ...         },
        ...     }
        ... }
        >>> rates = from_deepspeed(config)
        >>> [round(rates.lr_at(t), 4) for t in range(8)]
        [0.0, 0.0, 0.05, 0.1, 0.075, 0.05, 0.025, 0.0]
    """
    live = hasattr(config, "get_lr") and hasattr(config, "inverse_log_warm_up")
    whole_config = {} if live else mapping_of(config, "DeepSpeed")
    name, given, own = _of_object(config) if live else _blocks(whole_config)
    if name not in DEFAULTS:
        raise ValueError(
            f"the scheduler's type must be one of {list(DEFAULTS)}, got {shown(name)}: build "
            "DeepSpeed's others with fused_warmup.schedules, torch's with from_torch"
        )
    for key, value in {**own, **given}.items():
        if value == "auto":
            raise ValueError(
                f"{key}='auto' is filled in by Hugging Face's Trainer, a number is needed here: "
                "write the one that it prints"
            )
    options = Options(f"DeepSpeed's {name}", given, DEFAULTS[name])
    base = _base(options, name, own, lr, group)
    schedule = SCHEDULES[name](options, base, group)
    if options["last_batch_iteration"] != -1:
        raise ValueError(
            f"last_batch_iteration={shown(options['last_batch_iteration'])} starts in the middle, "
            "it must be -1: the step count of the optimizer continues a run"
        )
    is_sgd = str(block(whole_config, "optimizer").get("type")).lower() == "sgd"
    taken = {"scheduler"} if "scheduler" in whole_config else {"type", "params"}
    if is_sgd:
        taken.add("optimizer")
    return ConvertedConfig(
        f"DeepSpeed's {name}",
        schedule,
        lr=base,
        options={key: value for key, value in own.items() if is_sgd and key != "lr"},
        left=options.left() | {k: v for k, v in whole_config.items() if k not in taken},
    )


def _of_object(scheduler: Any) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    """The class of a live scheduler, its arguments, and its optimizer's."""
    name, names = type(scheduler).__name__, RATIOS.keys() - {"last_batch_iteration"}
    given = {each: getattr(scheduler, each) for each in names if hasattr(scheduler, each)}
    if hasattr(scheduler, "org_lrs"):
        return name, given, {"lr": [float(rate) for rate in scheduler.org_lrs]}
    rates = {"warmup_min_lr": scheduler.min_lrs, "warmup_max_lr": scheduler.max_lrs}
    return name, given | rates, {}


def _blocks(config: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    """The scheduler's type and arguments, and the optimizer's."""
    scheduler = block(config, "scheduler") if "scheduler" in config else config
    if not isinstance(scheduler.get("type"), str):
        raise ValueError(
            f"the config has no scheduler with a type, got the keys {shown(list(config))}: pass "
            '{"scheduler": {"type": ..., "params": ...}}'
        )
    own = block(block(config, "optimizer"), "params")
    return scheduler["type"], block(scheduler, "params"), own


def _base(
    options: Options, name: str, own: Mapping[str, Any], lr: float | None, group: int | None
) -> float:
    highest = None if name == "WarmupCosineLR" else options["warmup_max_lr"]
    for value in (lr, highest, own.get("lr")):
        if value is not None:
            return finite("lr", _of_group("the base rate", value, group), 0.0, exclusive=True)
    raise ValueError(
        f"{name} names no base rate, warmup_max_lr or the optimizer's lr is needed: pass lr="
    )


def _of_group(name: str, value: Any, group: int | None) -> Any:
    """One group's of a list, as some of DeepSpeed's options are."""
    if not isinstance(value, list | tuple):
        return value
    each = listed(name, value)
    if group is None and any(other != each[0] for other in each):
        raise ValueError(
            f"{name} differs between the groups, {shown(each)}: pass group= and give each group "
            "its own schedule"
        )
    if not each or not 0 <= (group or 0) < len(each):
        raise ValueError(f"{name} has {len(each)} values, got group={group}: pass one of these")
    return each[group or 0]


def _rise(options: Options, low: float, first: float, top: float = 1.0) -> list[Segment]:
    """The factors up to the end of the warm-up: ``first``, then ``low + (top - low) g(t - 1)``."""
    steps = max(2, options.count("warmup_num_steps", 1))
    kind = options["warmup_type"]
    if kind == "linear":
        line = Segment(length=steps, origin=1, start=1, a=low, b=top)
        return [Segment.constant(first), line]
    if kind != "log":
        raise ValueError(
            f"warmup_type must be 'log' or 'linear', got {shown(kind)}: DeepSpeed takes it for "
            "'log', write that"
        )
    at_most("warmup_num_steps", steps, MAX_VALUES - 1)
    scale = 1.0 / math.log(steps)
    values = [low + (top - low) * (scale * math.log(i + 1)) for i in range(steps)]
    return [Segment(Kind.TABLE, values=(first, *values))]


def _rates(options: Options, base: float, group: int | None) -> tuple[float, float, int]:
    """The lowest and the highest factor, and the first step after the warm-up."""
    low = finite("warmup_min_lr", _of_group("warmup_min_lr", options["warmup_min_lr"], group), 0.0)
    given = _of_group("warmup_max_lr", options["warmup_max_lr"], group)
    high = base if given is None else finite("warmup_max_lr", given, 0.0)
    return low / base, high / base, max(2, options.count("warmup_num_steps", 1)) + 1


def _total(options: Options) -> int:
    if options["total_num_steps"] is None:
        raise ValueError("total_num_steps is missing, it has no default: add it to the params")
    return whole("total_num_steps", options["total_num_steps"], 1)


def _warmup(options: Options, base: float, group: int | None) -> Schedule:
    low, high, start = _rates(options, base, group)
    return Schedule((*_rise(options, low, low, high), Segment.constant(high, start)))


def _decay(options: Options, base: float, group: int | None) -> Schedule:
    low, high, start = _rates(options, base, group)
    total = _total(options)
    left = total - (start - 1)
    fall = Segment(start=start, origin=start, length=left, a=high, b=low) if left > 0 else None
    return Schedule(
        (*_rise(options, low, low, high), fall or Segment.constant(low, start)), total + 1
    )


def _cosine(options: Options, base: float, group: int | None) -> Schedule:
    low, end = options.number("warmup_min_ratio"), options.number("cos_min_ratio")
    start, total = max(2, options.count("warmup_num_steps", 1)) + 1, _total(options)
    length = max(1, total - (start - 1))
    fall = Segment(Kind.COS, start=start, origin=start, shift=1, length=length, b=end)
    return Schedule((*_rise(options, low, 0.0), fall), total + 1)


SCHEDULES = {"WarmupLR": _warmup, "WarmupDecayLR": _decay, "WarmupCosineLR": _cosine}
