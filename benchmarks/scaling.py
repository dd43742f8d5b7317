"""How a step's time grows: the host's with the number of tensors, all of it with their size."""

import functools
from collections.abc import Callable, Sequence

import torch

from . import contenders as who
from .contenders import Contender
from .measure import against, fit_line, no_sync, stats, timer, walk
from .results import Row, Task
from .shapes import ShapeSet
from .step import SMALL, Settings

TENSORS = (1, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)
ELEMENTS = tuple(10**power for power in range(3, 10))
BYTES_AN_ELEMENT = 4 * 5  # p and g once, and three momentum buffers


def curve(
    settings: Settings,
    sizes: Sequence[int],
    set_of: Callable[[int], ShapeSet],
    contenders: Sequence[Contender],
    *,
    host: bool,
    cold: bool = False,
) -> Row:
    """Measure each size; fit the cost of one more and of none.

    ``ratios`` are over the first contender. ``cold``: memory is walked before each step. Sizes that
    need more than a third of the memory at hand are left out.
    """
    memory = _free_bytes(settings.device)
    sizes = [n for n in sizes if set_of(n).n_elements * BYTES_AN_ELEMENT < memory / 3]
    before = walk() if cold else no_sync
    medians: dict[str, dict[str, float]] = {each.name: {} for each in contenders}
    times_ours: dict[str, dict[str, float]] = {each.name: {} for each in contenders[1:]}
    for n in sizes:
        # Small tensors are each contender's own: the other's would be in the caches.
        make = functools.partial(set_of(n).make, settings.device)
        params = make if set_of(n).n_elements <= SMALL else functools.cache(make)
        samplers = {
            each.name: timer(each.build(params()), settings.sync, before=before, host=host)
            for each in contenders
            if set_of(n).n_tensors <= each.max_tensors
        }
        seconds = settings.seconds / len(sizes)
        found, ratios = against(samplers, contenders[0].name, seconds=seconds, min_rounds=3)
        for name, samples in found.items():
            medians[name][str(n)] = stats(samples)["median"]
        for name, ratio in ratios.items():
            times_ours[name][str(n)] = ratio["median"]
    return {
        "kind": "host" if host else "total",
        "medians": medians,
        "ratios": times_ours,
        "fits": {
            name: fit_line([int(n) for n in own], list(own.values()))
            for name, own in medians.items()
        },
    }


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with open("/proc/meminfo") as lines:
        found = dict(line.split(":") for line in lines)
    return int(found["MemAvailable"].split()[0]) * 1024


def one_element(n: int) -> ShapeSet:
    return ShapeSet(f"{n} x 1", ((1,),) * n)


def one_tensor(n: int) -> ShapeSet:
    return ShapeSet(f"1 x {n}", ((n,),))


def tasks(settings: Settings) -> list[Task]:
    """Return the cases of this part."""
    contenders = [*who.against_fused(settings.device), who.torch_sgd("foreach")]
    tensors, elements = TENSORS, ELEMENTS if settings.device.type == "cuda" else ELEMENTS[:-1]
    if settings.quick:
        tensors, elements = TENSORS[:3], ELEMENTS[:2]
    by_tensors = functools.partial(curve, settings, tensors, one_element, contenders, host=True)
    cold = functools.partial(by_tensors, cold=True)
    by_elements = functools.partial(curve, settings, elements, one_tensor, contenders, host=False)
    return [
        Task("scaling", "number of tensors", by_tensors),
        Task("scaling", "number of tensors, cold", cold),
        Task("scaling", "number of elements", by_elements),
    ]
