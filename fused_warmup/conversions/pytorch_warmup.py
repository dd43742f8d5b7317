"""The warm-ups of pytorch_warmup, which dampen whatever rate a scheduler sets, as schedules."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..schedules.checks import MAX_VALUES, whole
from ..schedules.schedule import Schedule
from ..schedules.segment import Kind, PastEnd, Segment
from ..schedules.tables import table
from .ahead.copies import function_of
from .ahead.own import check_length

LINEAR, EXPONENTIAL, RADAM = (
    "pytorch_warmup.base.LinearWarmup.warmup_factor",
    "pytorch_warmup.base.ExponentialWarmup.warmup_factor",
    "pytorch_warmup.radam.RAdamWarmup.warmup_factor",
)
AS_GOOD_AS_1 = 1e-15
"""Distance from 1 at which RAdam's factor, which never reaches it, is cut."""


def from_pytorch_warmup(
    warmup: Any, *, steps: int | None = None, group: int | None = None
) -> Schedule:
    """Convert a warm-up of pytorch_warmup: what it multiplies the rate of each step by.

    With W its ``warmup_period``: LinearWarmup is ``min((t + 1) / W, 1)``, ExponentialWarmup
    ``1 - exp(-(t + 1) / W)``, the untuned ones the same with W from the optimizer's ``betas``; the
    first three factors of a LinearWarmup of 4 are 0.25, 0.5, 0.75. RAdamWarmup becomes a table that
    ends where its factor is 1 to rounding. Steps count from its construction, however far it has
    got since. Multiply it with the schedule below it, ``from_torch(scheduler) * warmup``; `convert`
    does so where it is given both.

    A warm-up has multiplied ``group["lr"]`` since it was built. Where there is no scheduler of
    torch's, which keeps the rate in ``initial_lr``, give a new optimizer the rate that you began
    with.

    Args:
        warmup: The warm-up, over any optimizer.
        steps: Length of the training in steps. Needed for a class of your own, which is sampled.
        group: Index of the parameter group; None: all groups have the same warm-up.

    Returns:
        A schedule that stays at its last factor, of ``steps`` steps, endless for None.

    Raises:
        TypeError: No warm-up of pytorch_warmup.
        ValueError: ``steps`` is needed, or too many; groups differ and ``group`` is None.

    Source:
        pytorch_warmup 0.2.0; Ma & Yarats 2019 (arXiv:1910.04209).
    """
    if not is_warmup(warmup):
        raise TypeError(
            f"got a {type(warmup).__name__}, it must be a warm-up of pytorch_warmup: use "
            "from_torch for a scheduler of torch's"
        )
    length = None if steps is None else whole("steps", steps, 1)
    params = warmup.warmup_params
    chosen = params[0] if group is None else params[range(len(params))[group]]
    if group is None and any(each != chosen for each in params):
        raise ValueError(
            f"the groups have different warm-ups, {params}: pass group= and give each its own"
        )
    factor = _factor(warmup, dict(chosen), length)
    return replace(factor, steps=length)


def is_warmup(warmup: Any) -> bool:
    """Tell whether it is a warm-up of pytorch_warmup, or of a class made from one."""
    return any(
        (cls.__module__, cls.__qualname__) == ("pytorch_warmup.base", "BaseWarmup")
        for cls in type(warmup).__mro__
    )


@contextmanager
def undampened(warmup: Any) -> Iterator[None]:
    """Show the rates that the schedulers below a warm-up have set, while the block runs.

    None does nothing.
    """
    if warmup is None:
        yield
        return
    groups = warmup.optimizer.param_groups
    dampened = [group["lr"] for group in groups]
    try:
        for group, lr in zip(groups, warmup.lrs, strict=True):
            group["lr"] = lr
        yield
    finally:
        for group, lr in zip(groups, dampened, strict=True):
            group["lr"] = lr


def _factor(warmup: Any, params: dict[str, Any], steps: int | None) -> Schedule:
    function = type(warmup).warmup_factor
    kind = f"{function.__module__}.{function.__qualname__}"
    if kind == LINEAR:
        return Schedule((Segment(shift=1, length=params["warmup_period"], a=0.0, b=1.0),))
    if kind == EXPONENTIAL:
        clock = {"shift": 1, "length": params["warmup_period"]}
        return Schedule((Segment(Kind.EXP, PastEnd.CONTINUE, **clock, a=0.0, b=1.0, p=-1.0),))
    if kind == RADAM:
        return _radam(warmup, params, steps)
    name = type(warmup).__name__
    if steps is None:
        raise ValueError(
            f"{name} has no closed form that is known here: pass steps=, the length of the "
            "training, to sample it"
        )
    check_length(steps)
    with function_of(warmup.warmup_factor, name) as factor:
        return table([float(factor(t, **params)) for t in range(steps)])


def _radam(warmup: Any, params: dict[str, Any], steps: int | None) -> Schedule:
    longest = steps
    if longest is None:
        # The distance from 1 is that of (x + 1) exp(-x), x being t (1 - beta2), or below.
        longest = math.ceil(45.0 / (1.0 - params["beta2"]))
        if longest > MAX_VALUES:
            raise ValueError(
                f"a RAdamWarmup for beta2={params['beta2']} takes about {longest} steps, a table "
                f"holds {MAX_VALUES}: pass steps=, the length of the training"
            )
    check_length(longest)
    values: list[float] = []
    while len(values) < longest and not (values and values[-1] >= 1.0 - AS_GOOD_AS_1):
        values.append(warmup.warmup_factor(len(values), **params))
    return table(values)
