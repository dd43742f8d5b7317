"""A whole training step of a small convolutional net: forward, backward, optimizer."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from . import contenders as who
from .contenders import Contender
from .measure import timer
from .results import Row, Task
from .step import Settings, keep

KINDS = ("inside", "total")


def small_net(device: torch.device, convolutions: int = 53, width: int = 16) -> nn.Module:
    """Return a net of convolutions with batch norm, without anything else that learns.

    As many as ResNet-50 has, with 159 tensors.
    """
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(device)


@dataclass(frozen=True)
class Training:
    """A model in training.

    Attributes:
        gradients: Brings the gradients: forward and backward, after dropping those there were.
        update: The optimizer's step.
    """

    gradients: Callable[[], Any]
    update: Callable[[], Any]

    def step(self) -> None:
        """Do one step of training."""
        self.gradients()
        self.update()


def training(
    contender: Contender, device: torch.device, batch: int, convolutions: int = 53
) -> Training:
    """Return a model in training with an optimizer."""
    model = small_net(device, convolutions)
    images = torch.randn(batch, 16, 8, 8, device=device)
    labels = torch.randint(16, (batch,), device=device)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    update = contender.build(list(model.parameters()))

    def gradients() -> None:
        model.zero_grad(set_to_none=True)
        functional.cross_entropy(model(images), labels).backward()

    return Training(gradients, update)


def compare(
    settings: Settings, batch: int, contenders: list[Contender] | None = None, kinds: Any = KINDS
) -> Row:
    """Measure training with each contender, in turns; the first is what others are held against.

    - "inside": the optimizer's step inside a step of training, the time until it returns.
    - "total": the whole step of training; forward and backward alone stand beside.
    """
    if contenders is None:
        contenders = [*who.against_fused(settings.device), who.torch_sgd("for-loop")]
    row: Row = {"base": contenders[0].name, "batch": batch, "times": {}}
    found = {each.name: training(each, settings.device, batch) for each in contenders}
    if "inside" in kinds:
        inside = {
            name: timer(own.update, settings.sync, before=own.gradients, host=True)
            for name, own in found.items()
        }
        keep(row, "inside", inside, settings)
    if "total" in kinds:
        total = {name: timer(own.step, settings.sync) for name, own in found.items()}
        alone = next(iter(found.values())).gradients
        total["forward and backward alone"] = timer(alone, settings.sync)
        keep(row, "total", total, settings)
    return row


def tasks(settings: Settings) -> list[Task]:
    """Return the cases of this part."""
    batch = 2 if settings.quick else 128 if settings.device.type == "cuda" else 8
    case = f"53 convolutions with batch norm, batch {batch}"
    return [Task("model", case, functools.partial(compare, settings, batch))]
