"""Builds the law and the clock of each dict of MMEngine's ``param_scheduler``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....schedules.checks import finite, shown, whole
from ..reading import Options
from .arguments import LAWS, Arguments, Base
from .timeline import Clocked
from .waves import OneCycle

CLOCK: dict[str, Any] = {
    "type": None,
    "begin": 0,
    "end": None,
    "by_epoch": True,
    "convert_to_iter_based": False,
    "last_step": -1,
    "verbose": False,
    "param_name": None,
    "_scope_": None,
}
OWN: dict[str, dict[str, Any]] = {
    "Constant": {"factor": 1 / 3},
    "Linear": {"start_factor": 1 / 3, "end_factor": 1.0},
    "MultiStep": {"milestones": None, "gamma": 0.1},
    "Step": {"step_size": None, "gamma": 0.1},
    "Exponential": {"gamma": None},
    "Poly": {"eta_min": 0.0, "power": 1.0},
    "QuadraticWarmup": {},
    "CosineAnnealing": {"T_max": None, "eta_min": None, "eta_min_ratio": None},
    "CosineRestart": {
        "periods": None,
        "restart_weights": (1,),
        "eta_min": None,
        "eta_min_ratio": None,
    },
    "OneCycle": {
        "eta_max": 0.0,
        "total_steps": None,
        "pct_start": 0.3,
        "anneal_strategy": "cos",
        "div_factor": 25.0,
        "final_div_factor": 1e4,
        "three_phase": False,
    },
}
"""Each scheduler's arguments and their defaults; MMEngine 0.10.7's, and MMDetection 3.3's one."""
SUFFIXES = {"LR": "lr", "Momentum": "momentum", "ParamScheduler": None}


@dataclass(frozen=True)
class Training:
    """What the runner knows of a training."""

    epoch_length: int | None
    max_epochs: int | None
    max_iters: int | None

    @property
    def steps(self) -> int | None:
        """Updates of the whole training; None: not known."""
        if self.max_epochs is not None and self.epoch_length is not None:
            return self.max_epochs * self.epoch_length
        return self.max_iters if self.max_epochs is None else None

    def end(self, by_epoch: bool) -> int | None:
        """Return where a scheduler ends that does not say so."""
        return self.max_epochs if by_epoch else self.steps


@dataclass(frozen=True)
class Built:
    """One scheduler, and the base that those after it in the list find."""

    clocked: Clocked
    base: float


def build(
    schedulers: Sequence[Any], parameter: str, unit: float | None, training: Training
) -> list[Built]:
    """Build the schedulers of the rate or of the momentum.

    Args:
        schedulers: The dicts of the config.
        parameter: ``"lr"`` or ``"momentum"``; the others are passed over.
        unit: What its base value is; None: not known.
        training: How long the training is.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: See `fused_warmup.from_mmengine`.
    """
    built: list[Built] = []
    base = 1.0
    for given in schedulers:
        if not isinstance(given, Mapping) or "type" not in given:
            raise TypeError(
                f"param_scheduler must hold dicts with a type, got {shown(given)}: pass the "
                "dicts that stand in the config, not built schedulers"
            )
        kind, moved = _kind(given)
        if moved == parameter:
            if kind == "OneCycle" and any(isinstance(each.clocked.law, OneCycle) for each in built):
                raise ValueError(
                    "param_scheduler has two of OneCycleLR, of which MMEngine gives both the rates "
                    "of the later one: leave one out"
                )
            built.append(_built(kind, given, Base(parameter, unit, base), training))
            base = built[-1].base
    return built


def _kind(given: Mapping[str, Any]) -> tuple[str, str]:
    """The kind of a scheduler and what it moves."""
    name = given["type"]
    name = getattr(name, "__name__", name)
    plain = str(name).removeprefix("mmengine.").removeprefix("mmdet.")
    for suffix, parameter in SUFFIXES.items():
        kind = plain.removesuffix(suffix)
        moved = given.get("param_name") if parameter is None else parameter
        possible = kind in OWN and not (kind == "OneCycle" and moved == "momentum")
        if plain.endswith(suffix) and possible and moved in ("lr", "momentum"):
            return kind, moved
    if plain.endswith("WeightDecay") or given.get("param_name") == "weight_decay":
        raise ValueError(
            f"type={shown(name)} moves the weight decay, which no schedule here does: take it out "
            "of the list, and set group['weight_decay'] in your loop"
        )
    raise ValueError(
        f"type={shown(name)} must be one of {', '.join(f'{each}LR' for each in OWN)} or the twin "
        "of one (but OneCycleLR) ending in Momentum: follow a metric with a scheduler on the host, "
        "and build any other schedule with fused_warmup.schedules"
    )


def _built(kind: str, given: Mapping[str, Any], base: Base, training: Training) -> Built:
    name = str(getattr(given["type"], "__name__", given["type"]))
    defaults = {**CLOCK, **OWN[kind]}
    if unknown := [key for key in given if key not in defaults]:
        raise ValueError(
            f"{name} has no option {', '.join(map(str, unknown))}: use those of {list(OWN[kind])} "
            f"and {list(CLOCK)[1:5]}"
        )
    options = Options(name, given, defaults)
    if options["last_step"] != -1:
        raise ValueError(
            f"last_step={shown(options['last_step'])} starts {name} in the middle, it must be -1: "
            "the step count of the optimizer continues a run"
        )
    by_epoch, converted = options.flag("by_epoch"), options.flag("convert_to_iter_based")
    unit = _epoch(name, training) if by_epoch else 1
    if by_epoch and not converted and training.max_epochs is None and training.max_iters:
        raise ValueError(
            f"{name} counts epochs (by_epoch=True) and max_iters={training.max_iters} says that "
            "the loop has none: set by_epoch=False or convert_to_iter_based=True"
        )
    if converted and not by_epoch:
        raise ValueError(
            f"{name} has convert_to_iter_based=True with by_epoch=False, it converts epochs: leave "
            "it out"
        )
    scale = unit if converted else 1  # what its numbers are multiplied by
    end = options["end"]
    end = training.end(by_epoch) if end is None else end
    epoch = unit if converted else None
    whole_ticks = kind == "QuadraticWarmup"  # MMDetection's does not round down
    begin = _position("begin", options["begin"], epoch, whole_ticks)
    length = None
    if end is not None:
        length = _position("end", end, epoch, whole_ticks) - begin
    if length is not None and length < 1:
        raise ValueError(
            f"end={shown(end)} of {name} must lie after begin={shown(options['begin'])}: make it "
            "later"
        )
    law, after = LAWS[kind](Arguments(name, options, length, scale, base))
    by_epoch = by_epoch and not converted
    return Built(Clocked(name, law, begin, unit if by_epoch else 1, by_epoch), after)


def _epoch(name: str, training: Training) -> int:
    if training.epoch_length is None:
        raise ValueError(f"{name} counts epochs (by_epoch=True): pass epoch_length=, its updates")
    return training.epoch_length


def _position(name: str, value: Any, epoch: int | None, whole_ticks: bool) -> int:
    """A position in ticks; one that is converted may lie within an epoch and is rounded down."""
    if epoch is not None:
        value = finite(name, value, 0.0) * epoch
        if not whole_ticks:
            return int(value)
    return whole(name, int(value) if isinstance(value, float) and value.is_integer() else value, 0)
