"""What surrounds a step: AMP's unscaling, clipping by the global norm, a low-precision copy."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import contenders as who
from . import shapes
from .contenders import Contender, Step
from .results import Row, Task
from .step import Settings, compare

# Every step unscales and clips the same gradients, so both must leave them as they are: a scale of
# 1 that never grows, a bound that no norm reaches (the multiplication by 1 is done all the same).
SCALER: dict[str, Any] = {"init_scale": 1.0, "growth_interval": 10**9}
MAX_NORM = 1e30
DECAY = 0.9999


def _optimizer(
    params: Sequence[Tensor], kind: str, **more: Any
) -> tuple[torch.optim.Optimizer, Any]:
    """Return torch's fused SGD and its scheduler, or ours, which needs none."""
    from fused_warmup import SGD

    from . import rates

    if kind == "ours":
        backend = who.our_backends(params[0].device)[0][0]
        schedule = rates.schedule()
        options = {**who.OPTIONS, **more}
        return SGD(params, lr=who.LR, schedule=schedule, backend=backend, **options), None
    optimizer = torch.optim.SGD(
        params, lr=who.LR, fused=kind == "fused", foreach=kind == "foreach", **who.OPTIONS
    )
    return optimizer, rates.scheduler("LambdaLR", optimizer)


def amp(kind: str, *, clip: bool) -> Contender:
    """Return unscale, clip and step with a GradScaler.

    Args:
        kind: "ours", or torch's "fused" or "foreach". foreach unscales in a pass of its own and
            reads on the host whether to step.
        clip: Clip by the global norm, which needs unscaled gradients and so a pass to unscale.
    """

    def build(params: Sequence[Tensor]) -> Step:
        optimizer, scheduler = _optimizer(params, kind)
        scaler = torch.amp.GradScaler(params[0].device.type, **SCALER)
        scaler.scale(torch.ones((), device=params[0].device))  # makes its tensors

        def step() -> None:
            if clip:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(params, MAX_NORM, foreach=True)
            scaler.step(optimizer)
            scaler.update()
            if scheduler is not None:
                scheduler.step()

        return step

    passes = "unscale, clip, step" if clip else "unscale, step"
    return Contender(f"{'ours' if kind == 'ours' else f'torch {kind}'}: {passes}", build)


def averaging(kind: str) -> Contender:
    """Return unscale, clip, step and an exponential moving average of all parameters.

    torch's average is a pass of its own, `torch._foreach_lerp_`, as in AveragedModel. Ours is part
    of the step, which clips and unscales, too.
    """

    def build(params: Sequence[Tensor]) -> Step:
        if kind == "ours":
            return clip_in_step(ema_decay=DECAY).build(params)
        rest = amp(kind, clip=True).build(params)
        averages = [p.detach().clone() for p in params]

        @torch.no_grad()
        def step() -> None:
            rest()
            torch._foreach_lerp_(averages, list(params), 1 - DECAY)

        return step

    return Contender(
        f"{'ours' if kind == 'ours' else f'torch {kind}'}: unscale, clip, step, average", build
    )


def clip_in_step(**more: Any) -> Contender:
    """Return unscale, clip and step of ours by `fused_warmup.clip_grad_norm_`.

    It takes the norm of the scaled gradients, and the step does the rest. Gradients stay as they
    are.
    """

    def build(params: Sequence[Tensor]) -> Step:
        from fused_warmup import clip_grad_norm_

        optimizer, _ = _optimizer(params, "ours", write_grads=False, **more)
        scaler = torch.amp.GradScaler(params[0].device.type, **SCALER)
        scaler.scale(torch.ones((), device=params[0].device))  # makes its tensors

        def step() -> None:
            clip_grad_norm_(optimizer, MAX_NORM, scaler=scaler)
            scaler.step(optimizer)
            scaler.update()

        return step

    return Contender("ours: unscale and clip in the step", build)


def low_precision(kind: str) -> Contender:
    """Return a step of float32 masters for bfloat16 parameters and gradients.

    torch copies gradients up, steps, and copies parameters down. Ours does all of it in the step.
    """

    def build(params: Sequence[Tensor]) -> Step:
        if kind == "ours":
            # Of its own: others that step in turns write to `params`, and masters would follow.
            own = [p.detach().clone().requires_grad_() for p in params]
            for p, shared in zip(own, params, strict=True):
                p.grad = shared.grad
            return _optimizer(own, kind, master_weights=True)[0].step
        masters = [p.detach().float().requires_grad_() for p in params]
        grads = [p.grad for p in params]
        for master in masters:
            master.grad = torch.zeros_like(master)
        optimizer, scheduler = _optimizer(masters, kind)
        master_grads = [master.grad for master in masters]

        @torch.no_grad()
        def step() -> None:
            torch._foreach_copy_(master_grads, grads)
            optimizer.step()
            torch._foreach_copy_(list(params), masters)
            scheduler.step()

        return step

    return Contender(f"{'ours' if kind == 'ours' else f'torch {kind}'}: fp32 masters", build)


def clip_contenders() -> list[Contender]:
    """Return ours, which clips in the step, and torch and ours as torch does it."""
    return [clip_in_step(), *(amp(kind, clip=True) for kind in ("fused", "foreach", "ours"))]


def tasks(settings: Settings) -> list[Task]:
    """Return the cases of this part."""
    unscale = [amp(kind, clip=False) for kind in ("ours", "fused", "foreach")]
    averages = [averaging(kind) for kind in ("ours", "fused", "foreach")]
    masters = [low_precision(kind) for kind in ("ours", "fused", "foreach")]
    cases: list[tuple[str, Callable[[], Row]]] = [
        ("unscale, step", functools.partial(compare, settings, shapes.RESNET50, unscale)),
        (
            "unscale, clip, step",
            functools.partial(compare, settings, shapes.RESNET50, clip_contenders()),
        ),
        (
            "unscale, clip, step, average",
            functools.partial(compare, settings, shapes.RESNET50, averages),
        ),
        (
            "bf16 with fp32 masters",
            functools.partial(compare, settings, shapes.RESNET50, masters, torch.bfloat16),
        ),
    ]
    return [Task("pipelines", name, run) for name, run in cases]
