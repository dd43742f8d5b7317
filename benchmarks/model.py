"""A whole training step of a small convolutional net: forward, backward, optimizer."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from . import contenders as who
from .contenders import Contender
from .measure import timer
from .results import Row, Task
from .step import Settings, keep


def small_net(device: torch.device, width: int = 32) -> nn.Module:
    """Return a net of 9 convolutions with batch norm: 29 tensors."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width_in = 3
    for i in range(9):
        stride = 2 if i in (3, 6) else 1
        layers += [
            nn.Conv2d(width_in, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        width_in = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers, *head).to(device)


def training_step(contender: Contender, device: torch.device, batch: int) -> Callable[[], Any]:
    """Return one step of training with an optimizer."""
    model = small_net(device)
    images = torch.randn(batch, 3, 32, 32, device=device)
    labels = torch.randint(10, (batch,), device=device)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    update = contender.build(list(model.parameters()))

    def step() -> None:
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        update()
        model.zero_grad(set_to_none=True)

    return step


def compare(settings: Settings, batch: int) -> Row:
    """Measure whole steps, and the forward and backward passes alone."""
    nothing = Contender("forward and backward alone", lambda params: lambda: None)
    contenders = [*who.against_fused(settings.device), who.torch_sgd("for-loop"), nothing]
    row: Row = {"base": contenders[0].name, "batch": batch, "times": {}}
    samplers = {
        each.name: timer(training_step(each, settings.device, batch), settings.sync)
        for each in contenders
    }
    keep(row, "total", samplers, settings)
    return row


def tasks(settings: Settings) -> list[Task]:
    """Return the cases of this part."""
    batch = 2 if settings.quick else 128 if settings.device.type == "cuda" else 8
    case = f"small conv net, batch {batch}"
    return [Task("model", case, functools.partial(compare, settings, batch))]
