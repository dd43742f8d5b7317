"""Schedulers of somebody's own, run ahead as they are: a copy that goes on from the present."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...schedules.checks import MAX_VALUES
from .copies import copy_of
from .known import stranger
from .sandbox import clock, leaves, optimizer_of
from .stand_in import ON_THE_HOST, StandIn

OPTIONS = ("weight_decay", "dampening", "nesterov", "maximize")


@dataclass(frozen=True, slots=True)
class Run:
    """What a scheduler gives each group at its next steps, the present one first."""

    rates: list[list[float]]
    momenta: list[list[float]]


def run_ahead(scheduler: Any, steps: int | None) -> Run:
    """Run a copy of a scheduler for ``steps - 1`` steps from its present state.

    Raises:
        TypeError: It follows something of the training, or cannot be copied.
        ValueError: ``steps`` is None or too many; it moves options that no schedule moves here.
    """
    name = stranger(scheduler) or type(scheduler).__name__
    if steps is None:
        raise ValueError(
            f"{name} has no closed form that is known here: pass steps=, the length of the "
            "training, to sample it"
        )
    cycles = any(getattr(leaf, "cycle_momentum", False) for leaf in leaves(scheduler))

    def advance(copied: Any, t: int) -> None:
        copied.step()

    return run_copy(scheduler, optimizer_of(scheduler), name, steps, advance, cycles)


def run_copy(
    scheduler: Any,
    optimizer: Any,
    name: str,
    steps: int,
    advance: Callable[[Any, int], None],
    cycles_momentum: bool = False,
) -> Run:
    """Run a copy of any object that moves an optimizer's rates; ``advance`` takes it to step t."""
    check_length(steps)
    with copy_of(scheduler, optimizer, name) as (copied, stand_in):
        return _run(copied, stand_in, name, steps, advance, cycles_momentum)


def _run(
    copied: Any,
    stand_in: StandIn,
    name: str,
    steps: int,
    advance: Callable[[Any, int], None],
    cycles_momentum: bool,
) -> Run:
    groups = stand_in.param_groups
    run = Run([[] for _ in groups], [[] for _ in groups])
    before = _options(groups, cycles_momentum)
    for t in range(steps):
        if t:
            advance(copied, t)
        for group, rates, momenta in zip(groups, run.rates, run.momenta, strict=True):
            rates.append(float(group["lr"]))
            momenta.append(_momentum(group))
        now = _options(groups, cycles_momentum)
        if moved := [option for option, i in now if now[option, i] != before[option, i]]:
            raise ValueError(
                f"{name} moves {moved[0]} of a group too, which no schedule does here: "
                f"{ON_THE_HOST}"
            )
    return run


def check_length(steps: int) -> None:
    """Raise where a table of so many steps would take too long to make, and too much memory."""
    if steps > MAX_VALUES:
        raise ValueError(
            f"{steps} steps would be sampled one by one, at most {MAX_VALUES} can be: lower "
            "steps=, or build the schedule from fused_warmup.schedules"
        )


def check_unused(scheduler: Any) -> None:
    """Raise where a scheduler of somebody's own is not as it was built, or may not be.

    Raises:
        ValueError: It has been stepped, or does not tell.
    """
    name = stranger(scheduler) or type(scheduler).__name__
    done = max(clock(scheduler), *map(clock, leaves(scheduler)))
    if done > 0:
        raise ValueError(
            f"{name} cannot be started over, and it is {done} steps in: convert() the run, which "
            "goes on from where it is, or pass a scheduler that has not been stepped"
        )
    with copy_of(scheduler, optimizer_of(scheduler), name) as (copied, _):
        copied.step()
        counts = clock(copied) == clock(scheduler) + 1
    if not counts:
        raise ValueError(
            f"{name} does not count its steps in last_epoch, so that nobody can tell how far it "
            "is: convert() the run, which goes on from where it is"
        )


def _momentum(group: dict[str, Any]) -> float:
    return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))


def _options(groups: list[dict[str, Any]], cycles: bool) -> dict[tuple[str, int], Any]:
    """Everything that a step goes by, but the rate; the momentum only where it does not cycle."""
    names = OPTIONS if cycles else (*OPTIONS, "momentum", "betas")
    return {(name, i): group.get(name) for i, group in enumerate(groups) for name in names}
