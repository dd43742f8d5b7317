"""Schedulers of somebody's own, run ahead as they are: a copy that goes on from the present."""

from dataclasses import dataclass
from typing import Any

from .copies import ON_THE_HOST, copy_of
from .known import stranger
from .sandbox import clock, leaves, optimizer_of

MAX_STEPS = 2**24
"""Most steps that are sampled: a table of 128 MiB, in a minute or two."""
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
    check_length(steps)
    cycles = any(getattr(leaf, "cycle_momentum", False) for leaf in leaves(scheduler))
    copied, stand_in = copy_of(scheduler, optimizer_of(scheduler), name)
    groups = stand_in.param_groups
    run = Run([[] for _ in groups], [[] for _ in groups])
    before = _options(groups, cycles)
    for t in range(steps):
        if t:
            copied.step()
        for group, rates, momenta in zip(groups, run.rates, run.momenta, strict=True):
            rates.append(float(group["lr"]))
            momenta.append(_momentum(group))
        moved = {key for key, value in _options(groups, cycles).items() if value != before[key]}
        if moved:
            option = min(moved)[0]
            raise ValueError(
                f"{name} moves {option} of a group too, which no schedule does here: {ON_THE_HOST}"
            )
    return run


def check_length(steps: int) -> None:
    """Raise where a table of so many steps would take too long to make, and too much memory."""
    if steps > MAX_STEPS:
        raise ValueError(
            f"steps={steps} would be sampled one by one, at most {MAX_STEPS} are: step the "
            "scheduler once in many updates and use .stretched(), or build the schedule from "
            "fused_warmup.schedules"
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
    copied, _ = copy_of(scheduler, optimizer_of(scheduler), name)
    copied.step()
    if clock(copied) != clock(scheduler) + 1:
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
