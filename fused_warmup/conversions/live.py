"""From torch.optim.SGD in the middle of a training to the fused optimizer."""

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, ReduceLROnPlateau

from .._groups.attached import COUNT
from .._groups.options import SCHEDULES
from .._optim.state import pack
from ..lars import LARS
from ..schedules.checks import whole
from ..sgd import SGD
from .ahead.sandbox import RATES, check_convertible, clock, leaves
from .ignite import from_ignite, is_ignites, optimizer_of
from .pytorch_warmup import from_pytorch_warmup, is_warmup, undampened
from .replaced import replace
from .rest import RestOfRun
from .timm import from_timm, is_timms
from .timm_lars import is_timms_lars, lars_options

OPTIONS = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
LARS_OPTIONS = (*OPTIONS, "trust_coefficient", "eps", "trust_clip", "lr_in_momentum", "adapt")
# What schedulers left behind, and schedules of a fused optimizer whose state was loaded: they are
# not what torch.optim.SGD goes by.
LEFTOVERS = {*RATES, "max_momentum", "base_momentum", *SCHEDULES}


def convert(
    optimizer: torch.optim.Optimizer,
    scheduler: Any = None,
    *,
    steps: int | None = None,
    steps_per_epoch: int | None = None,
    **options: Any,
) -> SGD | LARS:
    """Replace a torch.optim.SGD and its scheduler by a fused optimizer that continues their run.

    timm's ``Lars`` becomes a `LARS` in the same way.

    Call it between two steps, at the start or in mid-training, after the scheduler's step. The
    next rates are those that the scheduler would have set, from its state as it is, and so are the
    momenta of OneCycleLR and CyclicLR; the momentum buffers are copied. Neither of the old two is
    needed from here on, and neither should be stepped: that warns.

    A ReduceLROnPlateau follows a metric: it is kept, and moved to the new optimizer, whose
    ``group["lr"]`` it then changes. Go on stepping it.

    A scheduler of timm is converted at the start only, for it does not count its steps. A warm-up
    of pytorch_warmup goes into the list beside the scheduler that it dampens.

    Args:
        optimizer: The optimizer.
        scheduler: Its scheduler, torch's or timm's; or all of them in a list, in the order in which
            they are stepped, all equally often, and a warm-up of pytorch_warmup. None: the rates
            stay as they are.
        steps: Length of the whole training in steps of the scheduler, see `from_torch`.
        steps_per_epoch: Steps of the optimizer to one of the scheduler: None or 1 for a scheduler
            that is stepped after every update, the updates of an epoch for one that is stepped once
            an epoch (then call this between two epochs).
        **options: Keyword arguments of `SGD` such as ``backend`` and ``unscale``.

    Returns:
        The fused optimizer over the same parameters, ``steps_applied`` set.

    Raises:
        TypeError: The optimizer is no torch.optim.SGD; the scheduler is none of torch's or timm's,
            or counts epochs and ``steps_per_epoch`` is None.
        ValueError: The scheduler drives another optimizer, or needs ``steps``; schedulers that were
            stepped differently often, or one of timm's beside another or under way; two warm-ups.

    Example:
        >>> import torch
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> opt = torch.optim.SGD([weight], lr=0.5, momentum=0.9)
        >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.5)
        >>> for _ in range(2):
        ...     weight.sum().backward()
        ...     opt.step()
        ...     scheduler.step()
        >>> opt = convert(opt, scheduler)
        >>> opt.steps_applied
        2
        >>> opt.step()
        >>> opt.get_last_lr()
        [0.125]
    """
    by_lars = is_timms_lars(optimizer)
    if not (by_lars or isinstance(optimizer, torch.optim.SGD)):
        remedy = (
            "the optimizer comes first, then its scheduler"
            if isinstance(optimizer, LRScheduler)
            else "give another its rates by fused_warmup.attach(optimizer, schedule)"
        )
        raise TypeError(
            f"got a {type(optimizer).__name__}, it must be a torch.optim.SGD, for only its "
            f"momentum and options mean the same here, and those of timm's Lars: {remedy}"
        )
    if any(COUNT in group for group in optimizer.param_groups):
        raise RuntimeError(
            f"a schedule of attach drives this {type(optimizer).__name__}: build "
            "fused_warmup.SGD(..., schedule=...) and load its state_dict(), which goes on where it "
            "is, or call remove() of its handle before"
        )
    per_epoch = 1 if steps_per_epoch is None else whole("steps_per_epoch", steps_per_epoch, 1)
    given = list(scheduler) if isinstance(scheduler, (list, tuple)) else [scheduler]
    plateaus = [each for each in given if isinstance(each, ReduceLROnPlateau)]
    warmup = _only_warmup(optimizer, [each for each in given if is_warmup(each)])
    apart = (None, warmup, *plateaus)
    moving = _together(optimizer, [s for s in given if not any(s is each for each in apart)])
    with undampened(warmup):
        found: list[dict[str, Any]] = optimizer.param_groups
        if by_lars:
            found = [lars_options(group) for group in found]
        groups = [{k: v for k, v in g.items() if k == "lr" or k not in LEFTOVERS} for g in found]
        done = 0
        if is_timms(moving):
            _follow_timm(groups, moving, steps, steps_per_epoch)
        elif is_ignites(moving):
            _follow_ignite(groups, moving, steps, per_epoch)
        elif moving is not None:
            done = clock(moving) * per_epoch
            _follow(groups, optimizer, moving, steps, per_epoch)
    if warmup is not None:
        length = None if steps is None else steps * per_epoch
        done = _dampen(groups, warmup, length, None if moving is None else done)
    own = lars_options(optimizer.defaults) if by_lars else optimizer.defaults
    defaults = {name: own[name] for name in (LARS_OPTIONS if by_lars else OPTIONS)}
    if all(group.get("momentum_schedule") is not None for group in groups):
        # Groups that are added later follow it, and it is a factor of this.
        defaults["momentum"] = groups[0]["momentum"]
    # Momentum may have been set to 0 since, where nesterov means nothing; a new group may not.
    nesterov = [group.pop("nesterov") for group in groups]
    defaults = {**defaults, **options}
    kind = LARS if by_lars else SGD
    fused = kind(groups, lr=optimizer.defaults["lr"], **{**defaults, "nesterov": False})
    for group, wanted in zip(fused.param_groups, nesterov, strict=True):
        group["nesterov"] = wanted
    fused.defaults["nesterov"] = defaults["nesterov"]
    # What torch.optim.SGD goes by, and past hooks that may make something else of its state.
    packed = pack(optimizer.state, optimizer.param_groups)["state"]
    buffers = {
        key: {name: value for name, value in entry.items() if name == "momentum_buffer"}
        for key, entry in packed.items()
    }
    groups = fused.state_dict()["param_groups"]
    fused.load_state_dict({"state": buffers, "param_groups": groups})
    fused.steps_applied = done
    for plateau in plateaus:
        plateau.optimizer = fused
    replace(optimizer)
    return fused


def _together(optimizer: torch.optim.Optimizer, schedulers: list[Any]) -> Any:
    """Return the one scheduler that moves the rates, which may be a chain of several.

    Raises:
        ValueError: They do not move together, or one of them drives another optimizer.
    """
    for each in schedulers:
        _check(optimizer, each)
    if len(schedulers) <= 1:
        return schedulers[0] if schedulers else None
    names = " and ".join(type(each).__name__ for each in schedulers)
    if any(is_timms(each) or is_ignites(each) for each in schedulers):
        raise ValueError(
            f"{names} were given, and one of them is timm's or ignite's, which must be alone: "
            "pass one"
        )
    done = [clock(each) for each in schedulers]
    if len(set(done)) > 1:
        raise ValueError(
            f"{names} were stepped {done} times, all schedulers of one call must have been stepped "
            "as often: pass one of them, and build the others with the new optimizer"
        )
    return ChainedScheduler(schedulers, optimizer=optimizer)


def _only_warmup(optimizer: torch.optim.Optimizer, warmups: list[Any]) -> Any:
    if len(warmups) > 1:
        names = " and ".join(type(each).__name__ for each in warmups)
        raise ValueError(f"{names} would dampen one rate twice: pass one of them")
    for each in warmups:
        _check_same(optimizer, each.optimizer, type(each).__name__)
    return warmups[0] if warmups else None


def _dampen(groups: list[dict[str, Any]], warmup: Any, steps: int | None, done: int | None) -> int:
    """Multiply the schedules of groups by a warm-up's, and return its steps so far."""
    so_far = int(warmup.last_step)
    if done not in (None, so_far):
        raise ValueError(
            f"the {type(warmup).__name__} is {so_far} steps in, and the schedulers are {done}: "
            "pass steps_per_epoch= if they are stepped once an epoch, or write "
            "from_torch(scheduler).starting_at(n) * from_pytorch_warmup(warmup) if they began late"
        )
    for i, group in enumerate(groups):
        factor = from_pytorch_warmup(warmup, steps=steps, group=i)
        below = group.get("schedule")
        group["schedule"] = factor if below is None else below * factor
    return so_far


def _follow(
    groups: list[dict[str, Any]],
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    steps: int | None,
    per_epoch: int,
) -> None:
    """Give groups the schedules of the rest of a run under one of torch's schedulers."""
    length = None if steps is None else whole("steps", steps, 1)
    rest = RestOfRun(scheduler, clock(scheduler), length)
    for i, group in enumerate(groups):
        group["lr"] = _base(optimizer.param_groups[i])
        group["schedule"] = rest.schedule(i, group["lr"])
        if (momentum := rest.momentum(i)) is not None:
            group["momentum"], group["momentum_schedule"] = momentum
        for name in SCHEDULES:
            if group.get(name) is not None:
                group[name] = group[name].stretched(per_epoch)


def _follow_timm(
    groups: list[dict[str, Any]], scheduler: Any, steps: int | None, per_epoch: int | None
) -> None:
    """Give groups the schedules of a run that begins, under one of timm's schedulers."""
    for i, (group, base) in enumerate(zip(groups, scheduler.base_values, strict=True)):
        now = float(group["lr"])
        group["schedule"] = from_timm(scheduler, steps_per_epoch=per_epoch, steps=steps, group=i)
        group["lr"] = float(base)
        first = group["lr"] * group["schedule"](0)
        if not math.isclose(now, first, rel_tol=1e-6):
            raise ValueError(
                f"the {type(scheduler).__name__} began at the rate {first:.6g}, and group {i} has "
                f"{now:.6g}: timm's schedulers do not count their steps, so convert() before the "
                "first one, or build SGD over from_timm(scheduler) and set steps_applied"
            )


def _follow_ignite(
    groups: list[dict[str, Any]], scheduler: Any, steps: int | None, per_epoch: int
) -> None:
    """Give groups the schedules of a run under one of ignite's schedulers, from its next call."""
    for i, group in enumerate(groups):
        group["lr"] = _base(optimizer_of(scheduler).param_groups[i])
        schedule = from_ignite(scheduler, steps=steps, group=i, lr=group["lr"])
        group["schedule"] = schedule.stretched(per_epoch)


def _check(optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
    if is_ignites(scheduler):
        _check_same(optimizer, optimizer_of(scheduler), type(scheduler).__name__)
        return
    if is_timms(scheduler) and scheduler.param_group_field != "lr":
        raise ValueError(
            f"the {type(scheduler).__name__} moves {scheduler.param_group_field!r}, only the rate "
            "can be converted: keep it over the new optimizer, param_group_field='lr' is meant here"
        )
    if not is_timms(scheduler):
        check_convertible(scheduler)
    for leaf in leaves(scheduler):
        _check_same(optimizer, leaf.optimizer, type(leaf).__name__)


def _check_same(optimizer: torch.optim.Optimizer, driven: Any, name: str) -> None:
    if driven is not optimizer:
        raise ValueError(
            f"the {name} drives another optimizer: pass the optimizer that it was built over"
        )


def _base(group: dict[str, Any]) -> float:
    """Return the rate that a group's factors are relative to: never 0."""
    return float(group.get("initial_lr", group["lr"])) or 1.0
