"""The goals that measurements are held against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import contenders as who
from . import layerwise, model, pipelines, shapes
from .contenders import Contender
from .step import Settings, compare

FUSED = "torch fused + LambdaLR"


@dataclass(frozen=True)
class CpuGoal:
    """How many times faster than torch a step must be, by the paired median of one run.

    Attributes:
        case: What is measured.
        at_least: torch's time over ours, at least.
        stretch: What would be better still.
        measure: Returns the row; its ratios are taken over ours.
        against: The contender that ours is compared with.
        kind: Which of the row's times are compared.
    """

    case: str
    at_least: float
    stretch: float
    measure: Callable[[Settings], dict[str, Any]]
    against: str = FUSED
    kind: str = "total"


def _step(shape_set: shapes.ShapeSet, kind: str = "total") -> Callable[[Settings], dict[str, Any]]:
    return lambda settings: compare(
        settings, shape_set, who.against_fused(settings.device), kinds=[kind]
    )


def _inside(settings: Settings) -> dict[str, Any]:
    return model.compare(settings, 8, who.against_fused(settings.device), kinds=["inside"])


def _pair(ours: Contender, torch_s: Contender, dtype: str) -> Callable[[Settings], dict[str, Any]]:
    import torch

    return lambda settings: compare(
        settings, shapes.RESNET50, [ours, torch_s], getattr(torch, dtype)
    )


# One thread, against torch.optim.SGD(fused=True) and LambdaLR.step(). Where memory is the limit,
# torch is at 98% of it already, so parity is all there is; what can be won is the time around it.
CPU_GOALS = (
    CpuGoal("inside training, 159 tensors", 5.0, 8.0, _inside, kind="inside"),
    CpuGoal("161 x 1", 10.0, 15.0, _step(shapes.ONE_ELEMENT)),
    CpuGoal("161 x 1, cold", 6.0, 10.0, _step(shapes.ONE_ELEMENT, "cold"), kind="cold"),
    CpuGoal("10,000 x 64", 7.0, 10.0, _step(shapes.MANY_SMALL)),
    CpuGoal("10,000 x 64, cold", 6.0, 10.0, _step(shapes.MANY_SMALL, "cold"), kind="cold"),
    CpuGoal("1 x 1", 4.0, 10.0, _step(shapes.ONE_TENSOR)),
    CpuGoal("1 x 1, cold", 3.0, 6.0, _step(shapes.ONE_TENSOR, "cold"), kind="cold"),
    CpuGoal("1 x 64M, fp32", 0.95, 1.0, _step(shapes.one_large(64))),
    CpuGoal("GPT-2 small, fp32", 0.95, 1.0, _step(shapes.GPT2)),
    CpuGoal("ResNet-50, fp32", 0.97, 1.05, _step(shapes.RESNET50)),
    CpuGoal(
        "unscale + clip + step, ResNet-50",
        1.4,
        1.6,
        _pair(pipelines.clip_in_step(), pipelines.amp("fused", clip=True), "float32"),
        "torch fused: unscale, clip, step",
    ),
    CpuGoal(
        "unscale + clip + step + average, ResNet-50",
        1.6,
        2.0,
        _pair(pipelines.averaging("ours"), pipelines.averaging("fused"), "float32"),
        "torch fused: unscale, clip, step, average",
    ),
    CpuGoal(
        "bf16 with fp32 masters, ResNet-50",
        1.7,
        2.2,
        _pair(pipelines.low_precision("ours"), pipelines.low_precision("fused"), "bfloat16"),
        "torch fused: fp32 masters",
    ),
    CpuGoal(
        "LARS, ResNet-50",
        3.0,
        5.0,
        lambda settings: compare(settings, shapes.RESNET50, layerwise.compared()),
        layerwise.FOREACH,
    ),
)
