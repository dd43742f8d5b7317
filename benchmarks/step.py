"""One optimizer step with its learning rate: every set of parameters, every contender."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import contenders as who
from . import device_time, shapes, trace
from .contenders import Contender
from .measure import Sampler, against, no_sync, stats, timer, walk
from .results import Row, Task
from .shapes import ShapeSet

MOMENTUM_PASSES = 5  # read p, g, m; write p, m
LARGE = 2**24  # elements from which on memory decides
YARDSTICK = "pass over as many bytes"
UNTRACED = 100  # launches that a step may have of which nobody knows
SMALL = 2**21  # elements up to which a step's time is mostly the host's


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        device: Where.
        seconds: For the rounds of one case.
        quick: Cut sets to what a rehearsal needs: nothing is large, figures mean nothing.
        min_rounds: Rounds of a case at least.
    """

    device: torch.device
    seconds: float = 6.0
    quick: bool = False
    min_rounds: int = 5

    @property
    def sync(self) -> Callable[[], Any]:
        return torch.cuda.synchronize if self.device.type == "cuda" else no_sync

    def cut(self, shape_set: ShapeSet) -> ShapeSet:
        """Return the set, or in a quick run something small in its place."""
        if not self.quick:
            return shape_set
        few = ShapeSet(shape_set.name, shape_set.shapes[:20])
        return few.capped(2000)


@functools.cache
def device_timer() -> device_time.DeviceTimer:
    return device_time.DeviceTimer()


def compare(
    settings: Settings,
    shape_set: ShapeSet,
    contenders: Sequence[Contender],
    dtype: torch.dtype = torch.float32,
    *,
    yardstick: bool = False,
    kinds: Sequence[str] = ("total", "host", "device", "cold", "hot"),
) -> Row:
    """Measure a step of each contender, in turns; the first is what others are held against.

    - "total": the time of a step, the others' steps between two of its own.
    - "host", on CUDA: the time until the step returns.
    - "device", on CUDA: the time on the device, as long as the queue holds a step's launches.
    - "cold", of small sets: the host's time, so much memory walked before each step that caches
      hold nothing of it.
    - "hot", of small sets: the host's time in a loop of steps, which no training has.

    With ``yardstick``, a CPU's memory is measured beside large sets. Only ``kinds`` are measured.
    """
    shape_set = settings.cut(shape_set)
    fit = [each for each in contenders if shape_set.n_tensors <= each.max_tensors]
    step_bytes = MOMENTUM_PASSES * dtype.itemsize * shape_set.n_elements
    row: Row = {
        "tensors": shape_set.n_tensors,
        "elements": shape_set.n_elements,
        "dtype": str(dtype).removeprefix("torch."),
        "bytes": step_bytes,
        "left_out": [each.name for each in contenders if each not in fit],
        "times": {},
    }
    cuda = settings.device.type == "cuda"
    n_sets = device_time.sets_for(3 * step_bytes // MOMENTUM_PASSES) if cuda else 1

    def sets() -> list[list[Tensor]]:
        return [shape_set.make(settings.device, dtype) for _ in range(n_sets)]

    # One's step would find the other's small tensors in the caches; large ones are in none.
    small = shape_set.n_elements <= SMALL
    steps = built(fit, sets if small else functools.cache(sets), settings, row)

    def samplers(**options: Any) -> dict[str, Sampler]:
        return {name: timer(own[0], settings.sync, **options) for name, own in steps.items()}

    if "total" in kinds:
        total = samplers()
        if yardstick and not cuda and shape_set.n_elements >= LARGE:
            total[YARDSTICK] = timer(pass_over(step_bytes, settings.device))
        keep(row, "total", total, settings)
    if cuda and "host" in kinds:
        keep(row, "host", samplers(host=True), settings)
    if cuda and "device" in kinds:
        row["trace"] = traces(steps, row["failed"])
        device = device_samplers(row["trace"], steps, 3 * step_bytes // MOMENTUM_PASSES)
        keep(row, "device", device, settings)
    if small or cuda:
        if "cold" in kinds:
            keep(row, "cold", samplers(host=True, before=walk()), settings)
        if "hot" in kinds:  # few steps on a GPU, whose queue of launches must not fill up
            keep(row, "hot", samplers(host=True, repeats=5 * cuda), settings)
    return row


def built(
    contenders: Sequence[Contender],
    sets: Callable[[], list[list[Tensor]]],
    settings: Settings,
    row: Row,
) -> dict[str, list[who.Step]]:
    """Return each contender's steps, one a set, warmed up; one that fails is noted in the row.

    Raises:
        RuntimeError: All of them failed.
    """
    steps, failed = {}, {}
    for each in contenders:
        try:
            own = [each.build(params) for params in sets()]
            for step in own + own:
                step()
            settings.sync()
        except Exception as error:  # a peer's fault must not cost the others' figures
            failed[each.name] = f"{type(error).__name__}: {error}"
        else:
            steps[each.name] = own
    if not steps:
        raise RuntimeError(f"no contender could do a step: {failed}")
    row["failed"] = failed
    row["base"] = next(iter(steps))
    return steps


def traces(steps: dict[str, list[who.Step]], failed: dict[str, str]) -> dict[str, Any]:
    """Return what each contender puts on the device, where a profiler can tell."""
    found = {}
    for name, own in steps.items():
        try:
            found[name] = trace.trace_of(own[0]).a_step()
        except Exception as error:  # times are worth more than a trace
            failed[f"the trace of {name}"] = f"{type(error).__name__}: {error}"
    return found


def device_samplers(
    traces: dict[str, Any], steps: dict[str, list[who.Step]], set_bytes: int
) -> dict[str, Sampler]:
    """Return samplers of device time, for the contenders whose launches the queue can hold."""
    samplers = {}
    for name, own in steps.items():
        a_step = traces.get(name, {})
        launches = a_step.get("kernels", 0) + a_step.get("copies", 0) or UNTRACED
        sampler = device_timer().sampler(own, launches, set_bytes)
        if sampler is not None:
            samplers[name] = sampler
    return samplers


def keep(row: Row, kind: str, samplers: dict[str, Sampler], settings: Settings) -> None:
    """Take the samples, and keep their statistics and ratios in the row."""
    samples, ratios = against(
        samplers, row["base"], seconds=settings.seconds, min_rounds=settings.min_rounds
    )
    for name, those in samples.items():
        row["times"].setdefault(name, {})[kind] = stats(those)
    if ratios:
        row.setdefault("ratios", {})[kind] = ratios


def pass_over(step_bytes: int, device: torch.device) -> Callable[[], Tensor]:
    """Return a pass in place that moves as many bytes as a step: half read, half written.

    Not a copy: a CPU reads what a copy overwrites, where a step has read it anyway.
    """
    return torch.ones(step_bytes // 8, device=device).neg_


def tasks(settings: Settings) -> list[Task]:
    """Return the cases of this part."""
    everyone, _ = who.everyone(settings.device)
    millions = 268 if settings.device.type == "cuda" else 64
    cases: list[tuple[ShapeSet, torch.dtype]] = [
        (shapes.ONE_TENSOR, torch.float32),
        (shapes.ONE_ELEMENT, torch.float32),
        (shapes.RESNET50, torch.float32),
        (shapes.one_large(millions), torch.float32),
        (shapes.GPT2, torch.float32),
        (shapes.MANY_SMALL, torch.float32),
        (shapes.VIT_B16, torch.float32),
    ]
    if settings.device.type == "cuda":
        # torch's fused CPU kernel leaves 16-bit parameters as they are (pytorch#191763).
        cases[3:3] = [(shapes.GPT2, torch.bfloat16)]
    return [
        Task(
            "step",
            f"{shape_set.name}, {str(dtype).removeprefix('torch.')}",
            functools.partial(compare, settings, shape_set, everyone, dtype, yardstick=True),
        )
        for shape_set, dtype in cases
    ]


def compiled_task(settings: Settings) -> Task:
    """Return torch under torch.compile, a task of its own: compiling takes long."""
    compiler = "eager" if settings.quick else "inductor"  # which takes half a minute or more
    contenders = [*who.against_fused(settings.device), who.torch_compiled(compiler=compiler)]
    shape_set = ShapeSet("20 x 64", ((64,),) * 20) if settings.quick else shapes.RESNET50
    return Task(
        "compiled",
        f"{shape_set.name}, float32",
        functools.partial(compare, settings, shape_set, contenders),
    )
