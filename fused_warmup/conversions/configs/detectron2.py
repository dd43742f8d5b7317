"""Detectron2's solver config: a multiplier of the progress ``iteration / MAX_ITER``."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...schedules.checks import finite, listed, shown, whole
from ...schedules.schedule import Schedule
from ...schedules.segment import Kind, Segment
from .converted import ConvertedConfig
from .reading import Options, block, mapping_of, read_literal

DEFAULTS: dict[str, Any] = {
    "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "MAX_ITER": 40000,
    "BASE_LR": 0.001,
    "BASE_LR_END": 0.0,
    "MOMENTUM": 0.9,
    "NESTEROV": False,
    "WEIGHT_DECAY": 0.0001,
    "GAMMA": 0.1,
    "STEPS": (30000,),
    "NUM_DECAYS": 3,
    "WARMUP_FACTOR": 0.001,
    "WARMUP_ITERS": 1000,
    "WARMUP_METHOD": "linear",
    "RESCALE_INTERVAL": False,
}
"""Detectron2 0.6's, as far as they move the rates or are options of SGD."""
EPSILON = 1e-6
"""What fvcore adds to the progress before it asks which part of a schedule rules."""
MAX_FILES = 32
"""Most files that ``_BASE_`` leads to."""


def from_detectron2(config: Any) -> ConvertedConfig:
    """Convert Detectron2's solver: ``cfg``, ``cfg.SOLVER``, a mapping, or the path of a YAML file.

    Reads ``LR_SCHEDULER_NAME`` (WarmupMultiStepLR, WarmupCosineLR, WarmupStepWithFixedGammaLR),
    ``MAX_ITER``, ``BASE_LR``, ``BASE_LR_END``, ``STEPS``, ``GAMMA``, ``NUM_DECAYS``,
    ``WARMUP_FACTOR``, ``WARMUP_ITERS``, ``WARMUP_METHOD`` and ``RESCALE_INTERVAL``; what is absent
    has Detectron2's default. With W = WARMUP_ITERS and M = MAX_ITER, ``main`` being the factor
    of the scheduler, the factor of iteration t is

    - linear, t < W: ``WARMUP_FACTOR + (main(W) - WARMUP_FACTOR) t / W``, where ``main(W)`` is 1
      with RESCALE_INTERVAL; constant: ``WARMUP_FACTOR``;
    - then ``main(t)``: ``GAMMA ** (STEPS passed)``, ``r + (1 - r)(1 + cos(pi t / M)) / 2`` with
      ``r = BASE_LR_END / BASE_LR``, or ``GAMMA ** floor(t (NUM_DECAYS + 1) / M)``. With
      RESCALE_INTERVAL t and M count from the end of the warm-up, and STEPS are stretched likewise.

    fvcore adds 1e-6 to the progress, so that where M is a million or more, drops and the end of the
    warm-up come some iterations early: here, too. From M on the last factor holds. The first three
    factors of a config without STEPS in its warm-up are, with W=1000, 0.001, 0.001999 and 0.002998.

    Args:
        config: A CfgNode or a mapping, whole or its SOLVER, or the path of a YAML file; files that
            it names under ``_BASE_`` are read first. Tuples may be written as text, as in YAML.

    Returns:
        ``schedule`` of M steps on ``lr`` = BASE_LR, momentum, weight decay and Nesterov's momentum;
        ``left`` holds the solver's other options, such as WEIGHT_DECAY_NORM and CLIP_GRADIENTS.

    Raises:
        TypeError: A value of the wrong type.
        OSError: A file cannot be read.
        ValueError: A value out of its range; an unknown scheduler or warm-up; a misspelt name.

    Source:
        detectron2/solver/build.py and lr_scheduler.py at commit 02b5c4e (0.6);
        fvcore/common/param_scheduler.py of fvcore 0.1.5.post20221221.

    Example:
        >>> solver = {"BASE_LR": 0.1, "MAX_ITER": 8, "STEPS": (4, 6), "WARMUP_ITERS": 2}
        >>> rates = from_detectron2(solver)
        >>> [round(rates.lr_at(t), 5) for t in range(8)]
        [0.0001, 0.05005, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    """
    given = _solver(config)
    options = Options("Detectron2's SOLVER", given, DEFAULTS)
    name = options.choice("LR_SCHEDULER_NAME", MAINS)
    total = options.count("MAX_ITER", 1)
    lr = options.number("BASE_LR", exclusive=True)
    method = options.choice("WARMUP_METHOD", ("linear", "constant"))
    low = options.number("WARMUP_FACTOR")
    warmup = min(options.count("WARMUP_ITERS"), total)
    rescaled = options.flag("RESCALE_INTERVAL")
    share = min(warmup / total, 1.0)  # the numbers of fvcore, from here on
    rest = 1.0 - share
    start = share + rest - rest if rescaled else 0.0

    def progress(t: int) -> float:
        where = t / total
        return (where - start) / rest if rescaled and rest > 0.0 else where

    # The first iteration that the warm-up does not rule.
    first = _first(lambda t: t / total + EPSILON > share, total) if warmup else 0
    main = MAINS[name](options, total, progress, (warmup, total) if rescaled else (0, total))
    segments: list[Segment] = []
    if first:
        top = 1.0 if rescaled else _value(main, warmup, total)
        rise = Segment(length=warmup, a=low, b=top)
        segments = [rise if method == "linear" else Segment.constant(low)]
    if first < total:
        segments += _from(main, first)
    return ConvertedConfig(
        f"Detectron2's {name}",
        Schedule(tuple(segments), total),
        lr=lr,
        momentum=options.number("MOMENTUM"),
        options={
            "weight_decay": options.number("WEIGHT_DECAY"),
            "nesterov": options.flag("NESTEROV"),
        },
        left=options.left(),
    )


def _solver(config: Any) -> dict[str, Any]:
    if isinstance(config, str | Path):
        config = _with_bases(Path(config), [])
    given = mapping_of(config, "Detectron2")
    solver = given.get("SOLVER", given)
    if not isinstance(solver, Mapping) or (solver is given and not _is_solver(given)):
        raise ValueError(
            f"the config has the keys {shown(list(given))}, SOLVER must be among them: pass cfg, "
            "cfg.SOLVER or the file of one of these"
        )
    # yacs reads text, too: YAML leaves a tuple and 1e-3 as they are written.
    return {
        str(name): read_literal(value) if isinstance(value, str) else value
        for name, value in solver.items()
    }


def _is_solver(given: Mapping[str, Any]) -> bool:
    return not given or any(name in DEFAULTS for name in given)


def _with_bases(path: Path, seen: list[Path]) -> Mapping[str, Any]:
    """A file over those that it names under ``_BASE_``."""
    seen.append(path)
    if len(seen) > MAX_FILES:
        raise ValueError(
            f"{path} is one of more than {MAX_FILES} files that _BASE_ leads to, which is the "
            "limit: take out the circle"
        )
    own = dict(mapping_of(path, "Detectron2"))
    bases = own.pop("_BASE_", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else listed("_BASE_", bases):
        merged |= block(_with_bases(path.parent / str(base), seen), "SOLVER")
    return {**own, "SOLVER": merged | block(own, "SOLVER")}


def _first(holds: Callable[[int], bool], last: int) -> int:
    """Return the first step of ``0 ... last`` for which ``holds``, ``last`` if none before."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


Progress = Callable[[int], float]
Interval = tuple[int, int]


def _multi_step(options: Options, total: int, progress: Progress, _: Interval) -> list[Segment]:
    steps = options["STEPS"]
    milestones = [whole("STEPS", step, 1) for step in listed("STEPS", steps)]
    kept = [step for step in milestones if step <= total]
    if kept != sorted(set(kept)) or (kept and kept[-1] == total) or total <= len(kept):
        raise ValueError(
            f"STEPS must increase and lie below MAX_ITER={total}, got {shown(steps)}: leave out "
            "those that do not"
        )
    gamma = options.number("GAMMA")

    def passed(milestone: int) -> int:
        return _first(lambda t: int((progress(t) + EPSILON) * total) >= milestone, total)

    values = {0: 1.0} | {passed(step): gamma**k for k, step in enumerate(kept, start=1)}
    return [Segment.constant(value, start) for start, value in values.items()]


def _cosine(options: Options, total: int, _: Progress, interval: Interval) -> list[Segment]:
    end = options.number("BASE_LR_END") / options.number("BASE_LR")
    if end > 1.0:
        raise ValueError(
            f"BASE_LR_END={options['BASE_LR_END']} must be at most BASE_LR={options['BASE_LR']}: "
            "lower it"
        )
    begin, end_at = interval
    return [Segment(Kind.COS, origin=begin, length=max(end_at - begin, 1), b=end)]


def _fixed_gamma(options: Options, total: int, progress: Progress, _: Interval) -> list[Segment]:
    parts, gamma = options.count("NUM_DECAYS", 1) + 1, finite("GAMMA", options["GAMMA"], 0.0)
    if gamma == 0.0:
        raise ValueError("GAMMA must be above 0, got 0: pass a number in this range")

    def reached(part: int) -> int:
        return _first(lambda t: int((progress(t) + EPSILON) * parts) >= part, total)

    # Stretched behind a warm-up, the progress is below 0 at first.
    values = {0: 1.0} | {reached(part): gamma**part for part in range(1, parts)}
    return [Segment.constant(value, start) for start, value in values.items() if start < total]


MAINS = {
    "WarmupMultiStepLR": _multi_step,
    "WarmupCosineLR": _cosine,
    "WarmupStepWithFixedGammaLR": _fixed_gamma,
}


def _value(segments: list[Segment], t: int, total: int) -> float:
    return Schedule(tuple(segments), total)(t)


def _from(segments: list[Segment], first: int) -> list[Segment]:
    """The segments that rule from ``first`` on."""
    ruling = [segment for segment in segments if segment.start <= first][-1]
    return [replace(ruling, start=first), *(s for s in segments if s.start > first)]
