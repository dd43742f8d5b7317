"""Interleaved timing: A B C A B C ..., medians with quartiles, and ratios of paired samples.

Contenders take turns, one sample each a round, so that whatever the machine does meanwhile falls on
all of them alike; a ratio is taken within a round, and then the median over the rounds.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Sampler = Callable[[], float]
Step = Callable[[], Any]


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
    samplers: Mapping[str, Sampler], *, seconds: float, min_rounds: int = 5, max_rounds: int = 60
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


def timer(step: Step, sync: Step = no_sync, *, host: bool = False, repeats: int = 0) -> Sampler:
    """Return a sampler of the time of one step.

    Args:
        step: What is timed. It is called a few times here, to warm up and to see how long it takes.
        sync: Waits for the device.
        host: Time until the step returns; else until the device is through.
        repeats: Steps a sample; 0 chooses so that a sample takes 3 ms or more. Host time on a GPU
            needs few, for the queue of launches must not fill up.
    """
    step()
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
