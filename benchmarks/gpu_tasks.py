"""What is measured on a GPU, the most telling first, for time may run out."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fused_warmup import SGD
from fused_warmup.schedules import constant, cosine, linear_warmup

from . import contenders as who
from . import device_time, layerwise, model, pipelines, scaling, shapes, step
from .cuda_variants import measured, variants
from .measure import interleaved, stats, timer
from .results import Results, Row, Task
from .step import Settings

# Up, down, and a rest at the end, within the replays that are counted.
TRAINING = linear_warmup(200).then(cosine(700, end=0.1)).then(constant(0.1))
REPLAYS = 1000
WARMUPS = 3
# Seconds that must be left for a task of a part to begin.
NEEDED = {
    **{"step": 25, "graphs": 30, "pipelines": 15, "model": 15, "scaling": 30, "compiled": 75},
    "variants": 90,
}


def bandwidth_task(results: Results, settings: Settings) -> Task:
    """Return the task that measures the copy bandwidth, the yardstick of all device times."""

    def run() -> Row:
        sizes = (2**20,) if settings.quick else (2**29, 2**31)
        if settings.device.type == "cuda":
            found = device_time.copy_bandwidth(step.device_timer(), sizes)
        else:
            sample = timer(step.pass_over(2 * sizes[0], settings.device))
            found = {"bytes_a_second": 2 * sizes[0] / sample(), "bytes": 2 * sizes[0], "n": 1}
        results.data["copy_bandwidth"] = found
        return dict(found)

    return Task("bandwidth", "device to device copy", run)


def compare(settings: Settings, *case: Any) -> Row:
    """Compare steps, and measure a copy of as many bytes beside them, which large ones outrun."""
    row = step.compare(settings, *case)
    if settings.device.type == "cuda":
        size = max(row["bytes"] // 2 // 4096 * 4096, 4096)
        row["copy"] = device_time.copy_bandwidth(step.device_timer(), (size,))
    return row


def step_tasks(settings: Settings) -> list[Task]:
    """Return the steps; all variants of torch's are compared over one set only."""
    device = settings.device
    everyone, _ = who.everyone(device)
    main = [each for each in everyone if not each.name.endswith(("SequentialLR", "constant lr"))]
    f32, bf16 = torch.float32, torch.bfloat16
    cases = [
        (shapes.RESNET50, f32, everyone),
        (shapes.one_large(268), f32, main),
        (shapes.GPT2, bf16, main),
        (shapes.MANY_SMALL, f32, main),
        (shapes.ONE_ELEMENT, f32, main),
        (shapes.VIT_B16, f32, main),
        (shapes.GPT2, f32, main),
    ]
    return [
        Task(
            "step",
            f"{shape_set.name}, {str(dtype).removeprefix('torch.')}",
            functools.partial(compare, settings, shape_set, contenders, dtype),
        )
        for shape_set, dtype, contenders in cases
    ]


def capture(run: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Return the replay of a run, captured after some warm-up; on a CPU the run itself."""
    if device.type != "cuda":
        for _ in range(WARMUPS):
            run()
        return run
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def training(settings: Settings, backend: str) -> tuple[SGD, Callable[[], None]]:
    """Return an optimizer and one whole training step with it, the same each time it is made."""
    made: list[SGD] = []

    def build(params: Any) -> Callable[[], Any]:
        options = {"lr": 0.05, "schedule": TRAINING, "backend": backend, **who.OPTIONS}
        made.append(SGD(params, **options))
        return made[0].step

    batch = 2 if settings.quick else 16
    contender = who.Contender("ours", build)
    trained = model.training(contender, settings.device, batch, convolutions=9)
    return made[0], trained.step


def replays(settings: Settings) -> Row:
    """Replay a captured training step through warm-up and decay beside two uncaptured runs.

    The second uncaptured run is the control: if it differs from the first, the model's own kernels
    do not repeat, and the comparison says nothing.
    """
    backend = who.our_backends(settings.device)[0][0]
    n = 20 if settings.quick else REPLAYS
    runs = [training(settings, backend) for _ in range(3)]
    (ours, run), (other, other_run), (control, control_run) = runs
    with deterministic():
        replay = capture(run, settings.device)
        for each in (other_run, control_run):
            for _ in range(WARMUPS):
                each()
        history = torch.empty(n, dtype=torch.float64, device=settings.device)
        for i in range(n):
            replay()
            history[i] = ours.lr_tensor()[0]
            other_run()
            control_run()
        wanted = np.array([0.05 * TRAINING(t) for t in range(WARMUPS, WARMUPS + n)])
        ulps = np.abs(history.cpu().numpy() - wanted) / np.spacing(wanted.astype(np.float32))
        row = {
            "backend": backend,
            "replays": n,
            "steps_applied": ours.steps_applied,
            "worst_rate_error_in_float32_ulps": float(ulps.max()),
            "parameters_equal": equal(ours, other),
            "control_equal": equal(other, control),
        }
        samplers = {
            "replayed": timer(replay, settings.sync),
            "uncaptured": timer(other_run, settings.sync),
        }
    samples = interleaved(samplers, seconds=settings.seconds, min_rounds=settings.min_rounds)
    return row | {"times": {name: {"total": stats(own)} for name, own in samples.items()}}


class deterministic:
    """Makes convolutions repeat to the bit within its block."""

    def __enter__(self) -> None:
        cudnn = torch.backends.cudnn
        self._before = cudnn.deterministic, cudnn.benchmark
        cudnn.deterministic, cudnn.benchmark = True, False

    def __exit__(self, *error: object) -> None:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = self._before


def equal(one: SGD, other: SGD) -> bool:
    pairs = zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def variants_tasks(settings: Settings) -> list[Task]:
    """Return the measurement of the CUDA kernel's other shapes, on a GPU with nvcc."""
    if settings.device.type != "cuda" or variants.NVCC is None:
        return []

    def run() -> Row:
        found = measured.measure(seconds=45.0)
        if not found.timings:
            raise RuntimeError(f"no variant was measured: {found.faults}")
        times = [dataclasses.asdict(each) for each in found.timings]
        return {"table": measured.table(found), "timings": times}

    return [Task("variants", "the CUDA kernel in other shapes", run)]


def tasks(results: Results, settings: Settings) -> list[Task]:
    """Return everything that is measured, the most telling first."""
    steps = step_tasks(settings)
    around = pipelines.tasks(settings)
    return [
        bandwidth_task(results, settings),
        *steps[:4],
        Task("graphs", "captured training step", functools.partial(replays, settings)),
        *variants_tasks(settings),
        around[1],
        around[0],
        *steps[4:5],
        *model.tasks(settings),
        *scaling.tasks(settings),
        *steps[5:],
        *around[2:],
        *layerwise.tasks(settings),
        step.compiled_task(settings),
    ]
