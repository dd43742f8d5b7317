"""The sets of parameters that are measured: shapes of well-known models, and extremes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeSet:
    """Parameters of one optimizer.

    Attributes:
        name: As tables and plots call it.
        shapes: One a parameter.
    """

    name: str
    shapes: tuple[Shape, ...]

    @property
    def n_tensors(self) -> int:
        return len(self.shapes)

    @property
    def n_elements(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    def capped(self, n_elements: int) -> "ShapeSet":
        """Return a set of the same number of tensors, each of at most ``n_elements``."""
        shapes = tuple((min(math.prod(shape), n_elements),) for shape in self.shapes)
        return ShapeSet(f"{self.name}, cut to {n_elements}", shapes)

    def make(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Return parameters with gradients: normal numbers, never zeros, which may run faster."""
        generator = torch.Generator(device).manual_seed(1)
        params = []
        for shape in self.shapes:
            data = torch.empty(shape, device=device, dtype=dtype).normal_(generator=generator)
            data.requires_grad_()
            data.grad = torch.empty_like(data).normal_(generator=generator)
            params.append(data)
        return params


def _resnet50() -> Iterator[Shape]:
    def conv(width_in: int, width: int, kernel: int) -> Iterator[Shape]:
        yield from [(width, width_in, kernel, kernel), (width,), (width,)]  # and its batch norm

    yield from conv(3, 64, 7)
    width_in = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            yield from conv(width_in, width, 1)
            yield from conv(width, width, 3)
            yield from conv(width, 4 * width, 1)
            if block == 0:
                yield from conv(width_in, 4 * width, 1)
            width_in = 4 * width
    yield from [(1000, 2048), (1000,)]


def _transformer_blocks(width: int, out_first: bool) -> Iterator[Shape]:
    def linear(width_in: int, width_out: int) -> list[Shape]:
        return [(width_out, width_in) if out_first else (width_in, width_out), (width_out,)]

    for _ in range(12):
        yield from [(width,), (width,), *linear(width, 3 * width), *linear(width, width)]
        yield from [(width,), (width,), *linear(width, 4 * width), *linear(4 * width, width)]


def _gpt2() -> Iterator[Shape]:
    yield from [(50257, 768), (1024, 768)]
    yield from _transformer_blocks(768, out_first=False)
    yield from [(768,), (768,)]


def _vit_b16() -> Iterator[Shape]:
    yield from [(1, 1, 768), (1, 197, 768), (768, 3, 16, 16), (768,)]
    yield from _transformer_blocks(768, out_first=True)
    yield from [(768,), (768,), (1000, 768), (1000,)]


RESNET50 = ShapeSet("ResNet-50", tuple(_resnet50()))
GPT2 = ShapeSet("GPT-2 small", tuple(_gpt2()))
VIT_B16 = ShapeSet("ViT-B/16", tuple(_vit_b16()))
MANY_SMALL = ShapeSet("10,000 x 64", ((64,),) * 10_000)
ONE_ELEMENT = ShapeSet("161 x 1", ((1,),) * 161)
ONE_TENSOR = ShapeSet("1 x 1", ((1,),))


def one_large(millions: int = 64) -> ShapeSet:
    """Return the set of one tensor of ``millions`` x 1,000,000 elements."""
    return ShapeSet(f"1 x {millions}M", ((millions * 1_000_000,),))
