"""``doctor``: every backend beside the reference on this machine, in seconds."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._backend import BACKENDS, backends, device_obstacle, device_types, kernel_of
from ..lars import LARS
from ..schedules import (
    cosine,
    cosine_restarts,
    inverse_sqrt,
    linear_warmup,
    multi_step,
    one_cycle_momentum,
    step,
    table,
)
from ..sgd import SGD

SCHEDULES = {
    "none": None,
    "warm-up, cosine": linear_warmup(4, start=0.1).then(cosine(6, end=0.01)),
    "stairs": step(3, 0.5),
    "milestones": multi_step([2, 5], 0.3),
    "restarts": cosine_restarts(3, 2, cycle_gain=0.9),
    "inverse sqrt": inverse_sqrt(3),
    "table": table([1.0, 0.5, 0.25, 0.8]),
}
OPTIONS: tuple[dict[str, Any], ...] = (
    {"momentum": 0.9, "weight_decay": 1e-2, "nesterov": True},
    {
        "momentum": 0.9,
        "dampening": 0.3,
        "maximize": True,
        "momentum_schedule": one_cycle_momentum(6, low=0.5),
    },
    {"weight_decay": 1e-2},
    {"momentum": 0.9, "ema_decay": 0.75, "ema_every": 2, "master_weights": True},
)
LAYERWISE = {"momentum": 0.9, "weight_decay": 1e-2, "trust_coefficient": 0.1}
"""Options of LARS."""
SHAPES = ((1,), (7,), (31, 3), (64,), (65,), (257, 129))
"""Sizes about the width of a vector unit, and one of several blocks."""
STEPS = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check of one backend on one device type found.

    Attributes:
        backend: The backend.
        device: The device, or what is missing.
        trusted: True: it agrees with the reference. False: it does not. None: it cannot run.
        text: One line for people.
    """

    backend: str
    device: str
    trusted: bool | None
    text: str


def _parameters(device: str, dtype: torch.dtype) -> list[Tensor]:
    make = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=make).to(device, dtype).requires_grad_() for shape in SHAPES
    ]


def _train(backend: str, device: str, dtype: torch.dtype, name: str, options: Any) -> list[Tensor]:
    """Train a few steps, one of which overflows; return all that the step wrote."""
    params = _parameters(device, dtype)
    kind = LARS if "trust_coefficient" in options else SGD
    opt = kind(params, lr=0.1, schedule=SCHEDULES[name], backend=backend, **options)
    make = torch.Generator().manual_seed(1)
    rates = []
    for i in range(STEPS):
        for p in params:
            p.grad = torch.randn(p.shape, generator=make).to(device, dtype)
        opt.grad_scale = torch.tensor(2.0, device=device)
        opt.found_inf = torch.tensor(float(i == 3), device=device)
        opt.step()
        rates.append(opt.lr_tensor().detach().cpu().clone())
    if opt.steps_applied != STEPS - 1:
        raise RuntimeError(f"{opt.steps_applied} steps were counted, {STEPS - 1} were applied")
    names = ("momentum_buffer", "ema", "master_param")
    buffers = [s[name] for s in opt.state.values() for name in names if name in s]
    return [t.detach().cpu() for t in (*params, *buffers)] + rates


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest relative difference, infinite where one is NaN."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        gap = ((a.double() - b.double()).abs() / b.double().abs().clamp_min(1e-3)).max().item()
        worst = max(worst, gap if gap == gap else float("inf"))
    return worst


def _cases() -> list[tuple[torch.dtype, str, dict[str, Any]]]:
    """Every schedule, every dtype and every set of options at least once."""
    names = list(SCHEDULES)
    single = [(torch.float32, name, OPTIONS[i % len(OPTIONS)]) for i, name in enumerate(names)]
    others = (torch.float64, torch.bfloat16, torch.float16)
    layerwise = [(dtype, names[1], LAYERWISE) for dtype in (torch.float32, torch.bfloat16)]
    narrow = [
        (dtype, names[1 + i % 2], options) for dtype in others for i, options in enumerate(OPTIONS)
    ]
    return single + narrow + layerwise


def _spare(backend: str, device: str, error: Exception) -> bool:
    """Whether all that is missing is a compiler, for a backend that nobody would be given here.

    Triton compiles its launchers with the C compiler of the machine that they run on, where its
    cache lacks them: some may be there and others not.
    """
    return "C compiler" in str(error) and kernel_of(torch.device(device)) != backend


def _check(backend: str, device: str, expected: list[list[Tensor]]) -> Verdict:
    began, worst = time.perf_counter(), 0.0
    for (dtype, name, options), reference in zip(_cases(), expected, strict=True):
        case = f"{str(dtype).removeprefix('torch.')}, {name}, {options}"
        try:
            gap = _difference(_train(backend, device, dtype, name, options), reference)
        except Exception as error:  # a broken backend must not hide the others
            text = f"{case}: {type(error).__name__}: {error}"
            return Verdict(backend, device, None if _spare(backend, device, error) else False, text)
        tolerance = 4 * torch.finfo(dtype).eps
        if not gap <= tolerance:
            text = f"{case}: differs from the reference by {gap:.1e}, {tolerance:.1e} is allowed"
            return Verdict(backend, device, False, text)
        worst = max(worst, gap)
    seconds = time.perf_counter() - began
    text = f"{len(expected)} cases, at most {worst:.1e} from the reference, {seconds:.1f} s"
    return Verdict(backend, device, True, text)


def examine() -> Iterator[Verdict]:
    """Yield a verdict for each backend and each device type that it serves here."""
    present = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if torch.xpu.is_available():
        present.append("xpu")
    found = backends()
    expected = [_train("reference", "cpu", *case) for case in _cases()]
    for name in BACKENDS:
        if not found[name].available:
            yield Verdict(name, "-", None, found[name].reason)
            continue
        devices = [d for d in present if d in (device_types(name) or present)]
        if not devices:
            yield Verdict(name, "-", None, "no device for it here")
        for device in devices:
            obstacle = device_obstacle(name, torch.device(device))
            yield (
                Verdict(name, device, None, obstacle)
                if obstacle
                else _check(name, device, expected)
            )


def add_doctor(commands: Any) -> None:
    """Add the command to the parser."""

    def run(_: argparse.Namespace) -> int:
        words = {True: "trust", False: "DO NOT TRUST", None: "not here"}
        verdicts = []
        for verdict in examine():
            verdicts.append(verdict)
            head = f"{verdict.backend:<10} {verdict.device:<5} {words[verdict.trusted]:<13}"
            print(head, verdict.text)
        return int(any(verdict.trusted is False for verdict in verdicts))

    commands.add_parser(
        "doctor", help="check each backend against the reference on this machine"
    ).set_defaults(run=run)
