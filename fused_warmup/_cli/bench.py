"""``bench``: which share of a training step the optimizer takes, now and with this package."""

import argparse
import functools
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ..schedules import linear_warmup
from ..schedules.checks import finite, whole
from ..sgd import SGD

Step = Callable[[], Any]
OPTIONS: dict[str, Any] = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 1e-4}
"""A learning rate at which the weights stay what they are, so that no value overflows."""
MIN_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Times:
    """Medians of one optimizer, in seconds.

    Attributes:
        host: Until the optimizer's step returns, its scheduler's included.
        step: Until the device is through with it.
        training: A whole step of training: forward, backward, optimizer.
    """

    host: float
    step: float
    training: float


def small_network(batch: int, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return 20 convolutions with batch norm, and what computes their loss."""
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(device)
    images = torch.randn(batch, 32, 16, 16, device=device)
    return model, lambda: model(images).square().mean()


def load(name: str, batch: int, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return what the function ``package.module:function`` makes.

    Raises:
        ValueError: There is no such function, or it returns something else.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise ValueError(f"--model={name} names no function: write package.module:function")
    sys.path.insert(0, str(Path.cwd()))  # as for `python -m`
    try:
        made = getattr(importlib.import_module(module), function)(batch, device)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"--model={name} cannot be imported ({error}): run this in the folder of its module"
        ) from error
    finally:
        sys.path.pop(0)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise ValueError(
            f"--model={name} returned a {type(made).__name__}, needed are a module and a function "
            "that computes its loss: return model, loss"
        )
    return made


def contenders(model: nn.Module, device: torch.device) -> dict[str, Step]:
    """Return an optimizer's step each, with what moves its learning rate on."""
    warmup = linear_warmup(500)

    def of_torch(**options: Any) -> Step:
        optimizer = torch.optim.SGD(model.parameters(), **OPTIONS, **options)
        scheduler = LambdaLR(optimizer, warmup)

        def step() -> None:
            optimizer.step()
            scheduler.step()

        return step

    found = {"torch.optim.SGD + LambdaLR": of_torch()}
    if device.type in ("cpu", "cuda", "xpu", "mps"):
        found["torch.optim.SGD(fused=True) + LambdaLR"] = of_torch(fused=True)
    found["fused_warmup.SGD"] = SGD(model.parameters(), **OPTIONS, schedule=warmup).step
    return found


def synchronizer(device: torch.device) -> Step:
    """Return what waits for a device."""
    if device.type == "cpu":
        return lambda: None
    return functools.partial(torch.accelerator.synchronize, device)


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep Python from collecting garbage in the middle of a sample."""
    import gc

    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def measure(
    model: nn.Module, loss: Callable[[], Tensor], device: torch.device, seconds: float
) -> dict[str, Times]:
    """Train with each optimizer in turns, on the same weights, and return their medians."""
    steps, wait = contenders(model, device), synchronizer(device)
    samples: dict[str, list[Times]] = {name: [] for name in steps}

    def gradients() -> None:
        model.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]

    for step in [*steps.values()] * 2:  # makes the state, and lets torch choose its algorithms
        gradients()
        step()
    wait()
    end = time.perf_counter() + seconds
    with quiet_collector():
        while len(samples["fused_warmup.SGD"]) < MIN_ROUNDS or time.perf_counter() < end:
            for name, step in steps.items():
                begin = time.perf_counter()
                gradients()
                wait()
                before = time.perf_counter()
                step()
                returned = time.perf_counter()
                wait()
                after = time.perf_counter()
                samples[name].append(Times(returned - before, after - before, after - begin))
    return {
        name: Times(
            *(statistics.median(getattr(each, kind) for each in those) for kind in Times.__slots__)
        )
        for name, those in samples.items()
    }


def table(found: dict[str, Times], device: torch.device) -> str:
    """Return the times as lines of text; a CPU's host time is the whole time.

    Example:
        >>> print(table({"fused_warmup": Times(1e-4, 1e-4, 1e-2)}, torch.device("cpu")))
                       optimizer   training step   share
        fused_warmup      100 us        10.00 ms    1.0 %
    """
    on_gpu = device.type != "cpu"
    width = max(map(len, found))
    head = f"{'':{width}}{'host time' if on_gpu else '':>{12 * on_gpu}}"
    lines = [f"{head}{'optimizer':>12}{'training step':>16}{'share':>8}"]
    for name, times in found.items():
        host = f"{_time(times.host):>12}" if on_gpu else ""
        share = f"{times.step / times.training:.1%}".replace("%", " %")
        lines.append(
            f"{name:{width}}{host}{_time(times.step):>12}{_time(times.training):>16}{share:>9}"
        )
    return "\n".join(lines)


def verdict(found: dict[str, Times]) -> str:
    """Return what that means for the training, in a sentence or two.

    Example:
        >>> ours, theirs = Times(2e-4, 2e-4, 1e-2), Times(2e-3, 2e-3, 1e-2)
        >>> verdict({"torch": theirs, "fused_warmup.SGD": ours})
        'A training step would take 18 % less time than with torch, whose part of it is 20 %.'
    """
    others = {name: times for name, times in found.items() if name != "fused_warmup.SGD"}
    name, best = min(others.items(), key=lambda item: item[1].step)
    ours = found["fused_warmup.SGD"].step
    share, saved = best.step / best.training, (best.step - ours) / best.training
    if saved < -0.01:
        return (
            f"Slower here: {name} takes {_time(best.step)} a step, fused_warmup.SGD {_time(ours)}."
        )
    if saved < 0.02:
        return (
            f"The optimizer is {100 * share:.1f} % of a training step here: this training would "
            "not be noticeably faster."
        )
    return (
        f"A training step would take {100 * saved:.0f} % less time than with {name}, whose part of "
        f"it is {100 * share:.0f} %."
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def add_bench(commands: Any) -> None:
    """Add the command to the parser."""

    def run(options: argparse.Namespace) -> None:
        batch = whole("--batch", options.batch, 1)
        seconds = finite("--seconds", options.seconds, 0.0)
        try:
            device = torch.device(
                options.device or torch.accelerator.current_accelerator() or "cpu"
            )
        except RuntimeError:
            raise ValueError(f"--device={options.device} is no device: write cpu or cuda") from None
        make = functools.partial(load, options.model) if options.model else small_network
        model, loss = make(batch, device)
        params = [p for p in model.parameters() if p.requires_grad]
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        print(
            f"{options.model or 'a small network of convolutions'}, batch {batch}, on {where}, "
            f"{torch.get_num_threads()} threads: {len(params)} tensors, "
            f"{sum(p.numel() for p in params):,} elements"
        )
        found = measure(model, loss, device, seconds)
        print(f"\n{table(found, device)}\n\n{verdict(found)}")

    parser = commands.add_parser(
        "bench", help="the optimizer's share of a training step, now and with fused_warmup"
    )
    parser.add_argument(
        "--model",
        help="package.module:function, which takes a batch size and a device and returns a model "
        "and a function that computes its loss (a small network of convolutions)",
    )
    parser.add_argument("--batch", type=int, default=32, help="examples of a step (32)")
    parser.add_argument("--device", help="cpu, cuda, ... (the accelerator, if there is one)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure (10)")
    parser.set_defaults(run=run)
