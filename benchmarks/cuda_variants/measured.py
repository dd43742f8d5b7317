"""Each variant on a GPU: checked against the reference, then timed over the sets of the goals."""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from fused_warmup import SGD

from .. import shapes
from ..device_time import DeviceTimer, sets_for
from .library import LR, MOMENTUM, WEIGHT_DECAY, Steps
from .variants import VARIANTS, Variant, compile_library

SETS = (
    (shapes.RESNET50, torch.float32),
    (shapes.one_large(268), torch.float32),
    (shapes.GPT2, torch.bfloat16),
    (shapes.MANY_SMALL, torch.float32),
    (shapes.ONE_ELEMENT, torch.float32),
)
CHECKED = shapes.ShapeSet("check", ((1,), (63,), (64, 65), (3,), (100_003,), (7, 11)))
SAMPLES = 15
COMPILERS = 8


@dataclass(frozen=True)
class Timing:
    """Seconds of a step's device time."""

    variant: str
    set_name: str
    seconds: float


def differences(library: Path, dtype: torch.dtype, device: str = "cuda") -> int:
    """Return how many tensors differ from the reference after three steps."""
    ours, theirs = CHECKED.make(device, dtype), CHECKED.make(device, dtype)
    step = Steps(library, ours)
    options = {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "backend": "reference"}
    reference = SGD(theirs, lr=LR, **options)
    for _ in range(3):
        step()
        reference.step()
    return sum(not torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


def compile_all(folder: Path) -> dict[Variant, Path]:
    """Compile every variant for the current device, several at once."""
    major, minor = torch.cuda.get_device_capability()
    libraries = {variant: folder / f"variant{i}.so" for i, variant in enumerate(VARIANTS)}
    with ThreadPoolExecutor(COMPILERS) as pool:
        list(
            pool.map(
                lambda one: compile_library(one[0], 10 * major + minor, one[1]), libraries.items()
            )
        )
    return libraries


def measure(seconds: float = 60.0) -> list[Timing]:
    """Check every variant, then time each over each set until the time is up.

    Raises:
        RuntimeError: A variant's parameters differ from the reference's.
    """
    timings = []
    with tempfile.TemporaryDirectory() as folder:
        libraries = compile_all(Path(folder))
        for variant, library in libraries.items():
            for dtype in (torch.float32, torch.bfloat16):
                if wrong := differences(library, dtype):
                    raise RuntimeError(
                        f"the variant {variant.name!r} gives {wrong} of "
                        f"{CHECKED.n_tensors} tensors of {dtype} other bits than the reference"
                    )
        end = time.monotonic() + seconds
        timer = DeviceTimer()
        for shape_set, dtype in SETS:
            size = torch.finfo(dtype).bits // 8
            set_bytes = 5 * size * shape_set.n_elements
            copies = [shape_set.make("cuda", dtype) for _ in range(sets_for(set_bytes))]
            for variant, library in libraries.items():
                if time.monotonic() > end:
                    return timings
                steps = [Steps(library, params) for params in copies]
                for step in steps:
                    step()
                sample = timer.sampler(steps, 1, set_bytes)
                assert sample is not None
                median = statistics.median(sample() for _ in range(SAMPLES))
                timings.append(Timing(variant.name, shape_set.name, median))
    return timings


def table(timings: list[Timing]) -> str:
    """Return a Markdown table of microseconds, the best of each set marked, then the best of all.

    The best of all has the least geometric mean of its ratios to the variant that is built.
    """
    sets = list(dict.fromkeys(timing.set_name for timing in timings))
    names = list(dict.fromkeys(timing.variant for timing in timings))
    found = {(timing.variant, timing.set_name): timing.seconds for timing in timings}
    lines = ["| variant | " + " | ".join(f"{name}, us" for name in sets) + " | ratio |"]
    lines.append("| --- |" + " --- |" * (len(sets) + 1))
    ratios = {}
    for name in names:
        cells = []
        for each in sets:
            best = min(seconds for (_, own), seconds in found.items() if own == each)
            seconds = found.get((name, each))
            cell = "-" if seconds is None else f"{1e6 * seconds:.1f}"
            cells.append(f"**{cell}**" if seconds == best else cell)
        common = [each for each in sets if (name, each) in found and (names[0], each) in found]
        own = [found[name, each] / found[names[0], each] for each in common]
        ratios[name] = statistics.geometric_mean(own)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {ratios[name]:.3f} |")
    best_name = min(ratios, key=ratios.__getitem__)
    return "\n".join(lines) + f"\n\nBest of all: {best_name}, {ratios[best_name]:.3f} of as built."
