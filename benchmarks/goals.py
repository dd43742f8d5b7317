"""The goals that measurements are held against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import contenders as who
from . import pipelines, shapes
from .contenders import Contender
from .step import Settings, compare


@dataclass(frozen=True)
class CpuGoal:
    """How many times faster than torch a step must be, by the paired median of one run.

    Attributes:
        case: What is measured.
        at_least: torch's time over ours, at least.
        stretch: What would be better still.
        measure: Returns the row; its ratios are taken over ours.
        against: The contender that ours is compared with.
    """

    case: str
    at_least: float
    stretch: float
    measure: Callable[[Settings], dict[str, Any]]
    against: str = "torch fused + LambdaLR"


def _step(shape_set: shapes.ShapeSet) -> Callable[[Settings], dict[str, Any]]:
    return lambda settings: compare(settings, shape_set, who.against_fused(settings.device))


def _pair(ours: Contender, torch_s: Contender, dtype: str) -> Callable[[Settings], dict[str, Any]]:
    import torch

    return lambda settings: compare(
        settings, shapes.RESNET50, [ours, torch_s], getattr(torch, dtype)
    )


# One thread, against torch.optim.SGD(fused=True) and LambdaLR.step(). Where memory is the limit,
# torch is at 98% of it already, so parity is all there is; what can be won is the time around it.
CPU_GOALS = (
    CpuGoal("1 x 64M, fp32", 0.95, 1.0, _step(shapes.one_large(64))),
    CpuGoal("GPT-2 small, fp32", 0.95, 1.0, _step(shapes.GPT2)),
    CpuGoal("ResNet-50, fp32", 0.97, 1.05, _step(shapes.RESNET50)),
    CpuGoal("10,000 x 64", 7.0, 10.0, _step(shapes.MANY_SMALL)),
    CpuGoal("host time, 161 tensors of one element", 8.0, 15.0, _step(shapes.ONE_ELEMENT)),
    CpuGoal(
        "unscale + clip + step, ResNet-50",
        1.4,
        1.6,
        _pair(pipelines.clip_in_step(), pipelines.amp("fused", clip=True), "float32"),
        "torch fused: unscale, clip, step",
    ),
    CpuGoal(
        "bf16 with fp32 masters, ResNet-50",
        1.7,
        2.2,
        _pair(pipelines.low_precision("ours"), pipelines.low_precision("fused"), "bfloat16"),
        "torch fused: fp32 masters",
    ),
)
