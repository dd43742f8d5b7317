"""Interleaved timing: A B A B ..., medians with quartiles, and ratios of paired samples.

Contenders take turns, one sample each a round, so that whatever the machine does meanwhile falls on
all of them alike; a ratio is taken within a round, and then the median over the rounds.

A small step's time is mostly the processor's wait for memory that something else has pushed out of
its caches since the step before. So a sample is one step, never a loop of steps, which finds all in
the caches; and something may run before it, untimed: `walk`, or a model's forward and backward.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Sampler = Callable[[], float]
Step = Callable[[], Any]

WALKED = 48 * 2**20  # bytes: more than the caches of most processors hold


def stats(samples: Sequence[float]) -> dict[str, float]:
    """Return median, quartiles and number of samples."""
    low, median, high = (
        statistics.quantiles(samples, n=4, method="inclusive")
        if len(samples) > 1
        else [samples[0]] * 3
    )
    return {"median": median, "q1": low, "q3": high, "n": len(samples)}


def ratios(samples: Mapping[str, Sequence[float]], base: str) -> dict[str, dict[str, float]]:
    """Return for each contender the statistics of its samples over the base's, round by round."""
    return {
        name: stats([a / b for a, b in zip(those, samples[base], strict=True)])
        for name, those in samples.items()
        if name != base
    }


def interleaved(
    samplers: Mapping[str, Sampler], *, seconds: float, min_rounds: int = 5, max_rounds: int = 300
) -> dict[str, list[float]]:
    """Return samples of each sampler, taken in turns.

    Args:
        samplers: Each call measures once and returns seconds.
        seconds: Rounds stop when they have taken this long.
        min_rounds: But not before this many.
        max_rounds: No more than this many.
    """
    samples: dict[str, list[float]] = {name: [] for name in samplers}
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        for done in range(max_rounds):
            if done >= min_rounds and time.perf_counter() > end:
                break
            for name, sampler in samplers.items():
                samples[name].append(sampler())
    finally:
        if enabled:
            gc.enable()
    return samples


def no_sync() -> None:
    """Wait for nothing: on a CPU a step is over when it returns."""


def against(
    samplers: Mapping[str, Sampler], base: str, *, seconds: float, min_rounds: int = 5
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]]]:
    """Return samples of each sampler, and the statistics of ratios over the base's.

    Each takes turns with the base alone: the base's step comes before every step of theirs. Among
    many, one variant of torch's would find warm what the one before it has used.

    Args:
        samplers: Each call measures once and returns seconds.
        base: The name of one of them; without it there, there are no ratios.
        seconds: For all rounds together.
        min_rounds: Rounds at least, for each.
    """
    others = [name for name in samplers if name != base]
    if base not in samplers or not others:
        return interleaved(samplers, seconds=seconds, min_rounds=min_rounds), {}
    samples: dict[str, list[float]] = {base: []}
    found: dict[str, dict[str, float]] = {}
    for name in others:
        turns = {base: samplers[base], name: samplers[name]}
        pair = interleaved(turns, seconds=seconds / len(others), min_rounds=min_rounds)
        samples[base] += pair[base]
        samples[name] = pair[name]
        found |= ratios(pair, base)
    return samples, found


def walk() -> Step:
    """Return a function that reads and writes so much memory that caches hold nothing else."""
    return torch.zeros(WALKED // 4).neg_


def timer(
    step: Step,
    sync: Step = no_sync,
    *,
    before: Step = no_sync,
    host: bool = False,
    repeats: int = 1,
) -> Sampler:
    """Return a sampler of the time of one step.

    Args:
        step: What is timed. It is called twice here, to warm up.
        sync: Waits for the device.
        before: Runs before each sample, untimed. The device is not waited for after it.
        host: Time until the step returns; else until the device is through.
        repeats: Steps a sample; 0 chooses so that a sample takes 3 ms or more.
    """
    for _ in range(2):
        before()
        step()
    if not repeats:
        sync()
        begin = time.perf_counter()
        step()
        sync()
        once = time.perf_counter() - begin
        repeats = max(1, min(1000, math.ceil(0.003 / max(once, 1e-7))))

    def sample() -> float:
        sync()
        before()
        begin = time.perf_counter()
        for _ in range(repeats):
            step()
        if not host:
            sync()
        end = time.perf_counter()
        sync()
        return (end - begin) / repeats

    return sample


def fit_line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Return slope and intercept of the line through points, errors counted relative to y.

    Relative, because sizes span orders of magnitude: the largest would else decide alone.
    """
    weights = [1 / value**2 for value in y]
    total = sum(weights)
    mean_x = sum(w * a for w, a in zip(weights, x, strict=True)) / total
    mean_y = sum(w * b for w, b in zip(weights, y, strict=True)) / total
    spread = sum(w * (a - mean_x) ** 2 for w, a in zip(weights, x, strict=True))
    both = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weights, x, y, strict=True))
    slope = both / spread if spread else 0.0
    return {"slope": slope, "intercept": mean_y - slope * mean_x}
