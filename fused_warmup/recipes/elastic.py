"""What becomes of a large-minibatch recipe when the number of workers changes in mid-training."""

from collections.abc import Mapping
from typing import Any

from .._optim.stepping import FusedOptimizer
from ..schedules import Schedule
from .base import LargeMinibatch


def change_batch(
    optimizer: FusedOptimizer, previous: LargeMinibatch, recipe: LargeMinibatch
) -> int:
    """Go on with another minibatch size: an elastic job that lost or won workers, say.

    The rule, for an optimizer that has applied ``t`` updates of ``previous``:

    1. The position in *epochs* stays: the count becomes
       ``t * recipe.steps_per_epoch / previous.steps_per_epoch``, rounded to the nearest update
       (halves up). Examples seen are what warm-up and drops are about.
    2. The rate follows the linear scaling rule: each group's ``lr`` is multiplied by
       ``recipe.lr / previous.lr``, so multiples that groups have of it stay.
    3. What remains of the schedule is ``recipe``'s from there on. In mid-warm-up, ``e`` of ``W``
       epochs in, the rate jumps from ``reference_lr * (1 + (k - 1) e / W)`` of the old ``k`` to
       that of the new, and ends at the new ``k * reference_lr`` when it would have ended before.
    4. Momentum stays as it is. The buffer averages gradients of a mean loss and the rate stands
       outside of it, so that no factor is due (Goyal et al. 2017, section 3, remark 2).
    5. Averages of the weights keep their reach in epochs: with ``k = previous.steps_per_epoch /
       recipe.steps_per_epoch``, ``ema_decay`` becomes ``ema_decay ** k`` (the EMA scaling rule),
       ``ema_start`` and the clock of ``ema_schedule`` are divided by ``k``. ``ema_every`` stays.

    Call it once on every rank, after loading the checkpoint, with ``schedules="code"`` or not: it
    does not matter which of the two recipes the optimizer was built by.

    Args:
        optimizer: Its count and rates are those of ``previous``. Its groups' schedules must be
            ``previous.schedule``, ``recipe.schedule`` or None.
        previous: The recipe that it ran by so far.
        recipe: The recipe for the new minibatch, over the same epochs.

    Returns:
        The step count from which training goes on.

    Raises:
        ValueError: A group follows another schedule, or its momentum one, whose steps this cannot
            translate, or its averages one of whole steps: a table, stairs, cycles. Nothing has
            changed then.

    Source:
        Linear scaling and momentum: Goyal et al. 2017 (arXiv:1706.02677), sections 2.1 and 3. Its
        application to a change of workers in mid-training: Lin et al. 2019, "Dynamic Mini-batch SGD
        for Elastic Distributed Training" (arXiv:1904.12043), which also ramps the rate over some
        epochs; here it changes at once. Averages: Busbridge et al. 2023, "How to Scale Your EMA"
        (arXiv:2307.13813), definition 1.2.

    Example:
        >>> import torch
        >>> from fused_warmup import SGD, large_minibatch
        >>> previous = large_minibatch(1024, dataset_size=102_400)
        >>> opt = SGD([torch.ones(2, requires_grad=True)], **previous.sgd_options())
        >>> opt.steps_applied = 250  # 2.5 epochs: half of the warm-up
        >>> recipe = large_minibatch(512, dataset_size=102_400)
        >>> change_batch(opt, previous, recipe), previous.lr, opt.param_groups[0]["lr"]
        (500, 0.4, 0.2)
        >>> [round(r.lr * r.schedule(t), 3) for r, t in ((previous, 250), (recipe, 500))]
        [0.25, 0.15]
    """
    for i, group in enumerate(optimizer.param_groups):
        if group["momentum_schedule"] is not None:
            raise ValueError(
                f"group {i} has a momentum_schedule, whose steps this cannot translate: set "
                "group['lr'], group['schedule'], group['momentum_schedule'] and steps_applied "
                "yourself"
            )
        own = group["schedule"]
        # A load leaves an optimizer that was built by the new recipe with the new schedule.
        known = (previous.schedule, recipe.schedule)
        if own is not None and Schedule.from_dict(own) not in known:
            raise ValueError(
                f"group {i} follows {Schedule.from_dict(own)}, which is neither previous.schedule "
                "nor recipe.schedule, so its steps cannot be translated: pass the recipe that the "
                "optimizer was built with, or set group['lr'], group['schedule'] and steps_applied "
                "yourself"
            )
    old, new = previous.steps_per_epoch, recipe.steps_per_epoch
    averaging = [_averaging(group, old, new) for group in optimizer.param_groups]
    optimizer.steps_applied = _moved(optimizer.steps_applied, old, new)
    for group, options in zip(optimizer.param_groups, averaging, strict=True):
        group["lr"] = group["lr"] * (recipe.lr / previous.lr)
        if group["schedule"] is not None:
            group["schedule"] = recipe.schedule.to_dict()
        group.update(options)
    return optimizer.steps_applied


def _moved(step: int, old: int, new: int) -> int:
    """Return the step that lies where one of ``old`` an epoch did, halves up."""
    return (2 * step * new + old) // (2 * old)


def _averaging(group: Mapping[str, Any], old: int, new: int) -> dict[str, Any]:
    """Return the options of a group's averages for another number of steps an epoch."""
    decay, start, schedule = group["ema_decay"], group["ema_start"], group["ema_schedule"]
    return {
        "ema_decay": None if decay is None else float(decay) ** (old / new),
        "ema_start": None if start is None else _moved(start, old, new),
        "ema_schedule": None
        if schedule is None
        else Schedule.from_dict(schedule).at_pace(new, old).to_dict(),
    }
