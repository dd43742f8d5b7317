"""Goyal et al. 2017, "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour".

The paper is arXiv:1706.02677; sections and equations are quoted by its numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..schedules import Schedule, constant, linear_warmup, multi_step
from ..schedules.checks import finite, listed, shown, steps_of, whole


@dataclass(frozen=True, slots=True)
class LargeMinibatch:
    """What `large_minibatch` worked out; printing it tells what was done and why.

    Args:
        lr: Base learning rate, scaled to the batch.
        schedule: Factor on ``lr`` at every update: the warm-up and the drops.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty of SGD.
        nesterov: Whether the momentum is Nesterov's.
        batch_size: Examples per update, over all workers.
        reference_lr: Learning rate the scaling starts from.
        reference_batch: Batch size that ``reference_lr`` belongs to.
        steps_per_epoch: Updates per epoch.
        warmup_steps: Updates of the warm-up; 0 for none.
        drop_steps: Updates at which the learning rate drops, counted from the start of training.
        gamma: Factor of each drop.
        total_steps: Updates in all.
    """

    lr: float
    schedule: Schedule
    momentum: float
    weight_decay: float
    nesterov: bool
    batch_size: int
    reference_lr: float
    reference_batch: int
    steps_per_epoch: int
    warmup_steps: int
    drop_steps: tuple[int, ...]
    gamma: float
    total_steps: int

    def sgd_options(self) -> dict[str, Any]:
        """Return the keyword arguments for ``fused_warmup.SGD(params, **recipe.sgd_options())``.

        Example:
            >>> sorted(large_minibatch(8192, steps_per_epoch=156).sgd_options())
            ['lr', 'momentum', 'nesterov', 'schedule', 'weight_decay']
        """
        names = ("lr", "momentum", "weight_decay", "nesterov", "schedule")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        scaling = f"{self.reference_lr:g} x {self.batch_size}/{self.reference_batch}"
        if self.warmup_steps:
            warmup = (
                f"{self.lr * self.schedule(0):.6g} to {self.lr:.6g} in equal increments over "
                f"{self.warmup_steps} steps (gradual, section 2.2)"
            )
        elif self.batch_size <= self.reference_batch:
            warmup = f"none, a batch of {self.batch_size} is no larger than the reference"
        else:
            warmup = "none, as asked"
        if self.drop_steps:
            steps = ", ".join(map(str, self.drop_steps))
            drops = f"x{self.gamma:g} at steps {steps} from the start of training (section 5.1)"
        else:
            drops = "none, as asked"
        sgd = f"momentum {self.momentum:g}{', Nesterov' * self.nesterov}"
        lines = {
            "learning rate": f"{self.lr:.6g} = {scaling} (linear scaling rule, section 2.1)",
            "warm-up": warmup,
            "drops": drops,
            "length": f"{self.total_steps} steps, {self.steps_per_epoch} per epoch",
            "SGD": f"{sgd}, weight decay {self.weight_decay:g} (section 5.1)",
        }
        title = f"large minibatch of {self.batch_size} (Goyal et al. 2017, arXiv:1706.02677)"
        return "\n".join((title, *(f"  {name:<15}{text}" for name, text in lines.items())))


def large_minibatch(
    batch_size: int,
    *,
    steps_per_epoch: int | None = None,
    dataset_size: int | None = None,
    drop_last: bool = False,
    reference_lr: float = 0.1,
    reference_batch: int = 256,
    warmup_epochs: float = 5,
    milestones: Sequence[float] = (30, 60, 80),
    epochs: float = 90,
    gamma: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    nesterov: bool = True,
) -> LargeMinibatch:
    """Scale a reference recipe for SGD to a large minibatch.

    With ``k = batch_size / reference_batch``, W the steps of the warm-up and
    ``drops(t) = gamma ** (number of milestones <= t)``:

    ``lr = k * reference_lr`` (linear scaling rule, section 2.1), and the schedule's factor is
    ``1/k + (1 - 1/k) * t / W`` for ``t < W`` (gradual warm-up per iteration, section 2.2) and
    ``drops(t)`` from then on, with milestones counted from the start of training. The first three
    learning rates with k = 2 and W = 4 are reference_lr times 1, 1.25 and 1.5. A batch no larger
    than the reference is scaled down and needs no warm-up.

    The paper keeps the reference learning rate for 256 images at 0.1, warms up for 5 epochs, drops
    tenfold at epochs 30, 60 and 80 of 90, with Nesterov momentum of 0.9 ("standard momentum ... is
    equally effective") and a weight decay of 0.0001 that spares the coefficients of batch
    normalization (section 5.1; see `split_weight_decay`).

    The momentum correction of section 3 is not needed: it is for equation 10, where the momentum
    has absorbed the learning rate. Here, as in torch and in equation 9, the rate multiplies the
    momentum buffer from outside, and a change of rate takes full effect at once.

    Args:
        batch_size: Examples per update: per worker, times workers, times accumulated batches.
        steps_per_epoch: Updates per epoch.
        dataset_size: Examples per epoch instead, from which the updates per epoch follow.
        drop_last: With ``dataset_size``: whether an incomplete last batch is left out, as in
            ``torch.utils.data.DataLoader``.
        reference_lr: Learning rate that works for ``reference_batch``.
        reference_batch: Batch size of the reference.
        warmup_epochs: Length of the warm-up in epochs, may be fractional, 0 for none.
        milestones: Epochs at which to drop, counted from the start of training.
        epochs: Length of training in epochs.
        gamma: Factor of each drop, at least 0.
        momentum: Momentum of SGD, in [0, 1].
        weight_decay: L2 penalty of SGD.
        nesterov: Whether the momentum is Nesterov's.

    Returns:
        The recipe; ``SGD(params, **recipe.sgd_options())`` uses it, ``print(recipe)`` tells it.

    Raises:
        TypeError: Both ``steps_per_epoch`` and ``dataset_size`` or none; a wrong type.
        ValueError: A value out of its range; a drop during the warm-up or after the end.

    Example:
        >>> recipe = large_minibatch(8192, dataset_size=1_281_167)
        >>> print(recipe)
        large minibatch of 8192 (Goyal et al. 2017, arXiv:1706.02677)
          learning rate  3.2 = 0.1 x 8192/256 (linear scaling rule, section 2.1)
          warm-up        0.1 to 3.2 in equal increments over 785 steps (gradual, section 2.2)
          drops          x0.1 at steps 4710, 9420, 12560 from the start of training (section 5.1)
          length         14130 steps, 157 per epoch
          SGD            momentum 0.9, Nesterov, weight decay 0.0001 (section 5.1)
        >>> [round(recipe.lr * recipe.schedule(t), 4) for t in (0, 1, 785, 4710)]
        [0.1, 0.1039, 3.2, 0.32]
    """
    batch_size = whole("batch_size", batch_size, 1)
    reference_batch = whole("reference_batch", reference_batch, 1)
    reference_lr = finite("reference_lr", reference_lr, 0.0, exclusive=True)
    per_epoch = _steps_per_epoch(batch_size, steps_per_epoch, dataset_size, drop_last)
    momentum = finite("momentum", momentum, 0.0, 1.0)
    if nesterov and momentum == 0.0:
        raise ValueError("nesterov=True needs a momentum above 0, got 0: set nesterov=False")
    gamma = finite("gamma", gamma, 0.0)
    k = batch_size / reference_batch
    total = steps_of(None, epochs, per_epoch)
    milestones = tuple(listed("milestones", milestones))
    drops = sorted(steps_of(None, drop, per_epoch, in_epochs="milestones") for drop in milestones)
    if drops and drops[-1] >= total:
        raise ValueError(
            f"milestones must lie before the end at epochs={epochs}, got {shown(milestones)}: "
            "leave out the late ones or train longer"
        )
    warmup = steps_of(None, warmup_epochs, per_epoch, in_epochs="warmup_epochs", minimum=0)
    if k <= 1:
        warmup = 0
    if warmup and warmup >= min([*drops, total]):
        raise ValueError(
            f"the warm-up must end before the first drop and the end of training, got "
            f"warmup_epochs={warmup_epochs}, milestones={shown(milestones)}, epochs={epochs}: "
            "shorten the warm-up"
        )
    schedule = multi_step(drops, gamma).lasting(total) if drops else constant(1.0, total)
    if warmup:
        schedule = linear_warmup(warmup, start=1 / k).then(schedule, clock="global")
    return LargeMinibatch(
        lr=k * reference_lr,
        schedule=schedule,
        momentum=momentum,
        weight_decay=finite("weight_decay", weight_decay, 0.0),
        nesterov=nesterov,
        batch_size=batch_size,
        reference_lr=reference_lr,
        reference_batch=reference_batch,
        steps_per_epoch=per_epoch,
        warmup_steps=warmup,
        drop_steps=tuple(drops),
        gamma=gamma,
        total_steps=total,
    )


def _steps_per_epoch(
    batch_size: int, steps_per_epoch: int | None, dataset_size: int | None, drop_last: bool
) -> int:
    if steps_per_epoch is not None and dataset_size is None:
        return whole("steps_per_epoch", steps_per_epoch, 1)
    if steps_per_epoch is not None or dataset_size is None:
        raise TypeError(
            f"got steps_per_epoch={steps_per_epoch!r} and dataset_size={dataset_size!r}: give "
            "exactly one of them"
        )
    size = whole("dataset_size", dataset_size, 1)
    count = size // batch_size if drop_last else -(-size // batch_size)
    if count == 0:
        raise ValueError(
            f"dataset_size={size} holds no full batch of {batch_size}: set drop_last=False or "
            "lower batch_size"
        )
    return count
