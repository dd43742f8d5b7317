"""Each variant on a GPU: checked against the reference, then timed over the sets of the goals."""

import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fused_warmup import SGD

from .. import shapes
from ..device_time import DeviceTimer, sets_for
from ..measure import Sampler, interleaved, ratios
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
MIN_ROUNDS = 5
COMPILERS = 16


@dataclass(frozen=True)
class Timing:
    """A step's device time.

    Attributes:
        seconds: The median.
        ratio: The median of its ratios to the first variant within a round; None: without that.
    """

    variant: str
    set_name: str
    seconds: float
    ratio: float | None = None


@dataclass
class Measured:
    """What became of all variants.

    Attributes:
        timings: Those that were taken.
        faults: Why a variant, or all that came after an error, has none.
    """

    timings: list[Timing] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)


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


def compile_all(folder: Path, faults: dict[str, str]) -> dict[Variant, Path]:
    """Compile every variant for the current device, several at once; note those that do not."""
    major, minor = torch.cuda.get_device_capability()
    libraries = {variant: folder / f"variant{i}.so" for i, variant in enumerate(VARIANTS)}

    def compile_one(variant: Variant) -> None:
        try:
            compile_library(variant, 10 * major + minor, libraries[variant])
        except (OSError, subprocess.SubprocessError) as error:
            faults[variant.name] = f"does not compile: {error}"

    with ThreadPoolExecutor(COMPILERS) as pool:
        list(pool.map(compile_one, libraries))
    return {each: library for each, library in libraries.items() if each.name not in faults}


def measure(seconds: float = 60.0) -> Measured:
    """Check every variant, then time all in turns over each set until the time is up.

    A variant that does not compile, or whose parameters differ from the reference's, is left out.
    An error of CUDA's ends it all, but for the timings that are there.
    """
    found = Measured()
    with tempfile.TemporaryDirectory() as folder:
        try:
            libraries = compile_all(Path(folder), found.faults)
            for variant, library in list(libraries.items()):
                wrong = sum(
                    differences(library, dtype) for dtype in (torch.float32, torch.bfloat16)
                )
                if wrong:
                    found.faults[variant.name] = f"{wrong} tensors differ from the reference"
                    del libraries[variant]
            end, timer = time.monotonic() + seconds, DeviceTimer()
            for i, (shape_set, dtype) in enumerate(SETS):
                share = (end - time.monotonic()) / (len(SETS) - i)
                found.timings += time_set(libraries, timer, shape_set, dtype, share)
        except RuntimeError as error:
            found.faults["all that is missing"] = f"{type(error).__name__}: {error}"
    return found


def time_set(
    libraries: dict[Variant, Path],
    timer: DeviceTimer,
    shape_set: shapes.ShapeSet,
    dtype: torch.dtype,
    seconds: float,
) -> list[Timing]:
    """Time a step of each variant over one set, in turns."""
    set_bytes = 3 * torch.finfo(dtype).bits // 8 * shape_set.n_elements
    copies = [shape_set.make("cuda", dtype) for _ in range(sets_for(set_bytes))]
    samplers: dict[str, Sampler] = {}
    for variant, library in libraries.items():
        steps = [Steps(library, params) for params in copies]
        for step in steps:
            step()
        sampler = timer.sampler(steps, 1, set_bytes)
        assert sampler is not None
        samplers[variant.name] = sampler
    samples = interleaved(samplers, seconds=seconds, min_rounds=MIN_ROUNDS)
    base = VARIANTS[0].name
    beside = ratios(samples, base) if base in samples else {}
    medians = {base: 1.0, **{name: each["median"] for name, each in beside.items()}}
    return [
        Timing(name, shape_set.name, statistics.median(own), medians.get(name))
        for name, own in samples.items()
    ]


def table(measured: Measured) -> str:
    """Return a Markdown table of microseconds, the best of each set marked, then the best of all.

    In brackets: the median of the ratios to the variant that is built, within a round. The best of
    all has the least geometric mean of them.
    """
    sets = list(dict.fromkeys(timing.set_name for timing in measured.timings))
    names = list(dict.fromkeys(timing.variant for timing in measured.timings))
    found = {(timing.variant, timing.set_name): timing for timing in measured.timings}
    lines = ["| variant | " + " | ".join(f"{name}, us" for name in sets) + " | ratio |"]
    lines.append("| --- |" + " --- |" * (len(sets) + 1))
    means = {}
    for name in names:
        cells = []
        for each in sets:
            best = min(t.seconds for (_, own), t in found.items() if own == each)
            timing = found.get((name, each))
            cell = "-" if timing is None else f"{1e6 * timing.seconds:.1f}"
            if timing is not None and timing.ratio is not None:
                cell += f" ({timing.ratio:.3f})"
            cells.append(f"**{cell}**" if timing is not None and timing.seconds == best else cell)
        own = [found[name, each].ratio for each in sets if (name, each) in found]
        known = [ratio for ratio in own if ratio is not None]
        mean = f"{statistics.geometric_mean(known):.3f}" if known else "-"
        if len(known) == len(sets):
            means[name] = statistics.geometric_mean(known)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {mean} |")
    text = ["\n".join(lines)] if names else []
    if means:
        best_name = min(means, key=means.__getitem__)
        text.append(f"Best of all: {best_name}, {means[best_name]:.3f} of as built.")
    text += [f"Not measured, {name}: {why}" for name, why in measured.faults.items()]
    return "\n\n".join(text)
