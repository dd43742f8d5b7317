"""Goyal et al. 2017, "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour".

The paper is arXiv:1706.02677; sections and equations are quoted by its numbers.
"""

from collections.abc import Sequence

from ..schedules import constant, linear_warmup, multi_step
from ..schedules.checks import finite, listed, shown, steps_of, whole
from .base import LargeMinibatch
from .layerwise import LarsMinibatch


def large_minibatch(
    batch_size: int,
    *,
    steps_per_epoch: int | None = None,
    dataset_size: int | None = None,
    drop_last: bool = False,
    reference_lr: float | None = None,
    reference_batch: int = 256,
    warmup_epochs: float | None = None,
    milestones: Sequence[float] | None = None,
    epochs: float = 90,
    gamma: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    nesterov: bool | None = None,
    optimizer: str = "sgd",
) -> LargeMinibatch:
    """Scale a reference recipe to a large minibatch: SGD's, or that of LARS for a very large one.

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
        reference_lr: Learning rate that works for ``reference_batch``; None: 0.1.
        reference_batch: Batch size of the reference.
        warmup_epochs: Length of the warm-up in epochs, may be fractional, 0 for none; None: 5.
        milestones: Epochs at which to drop, counted from the start of training; None: 30, 60, 80.
        epochs: Length of training in epochs.
        gamma: Factor of each drop, at least 0.
        momentum: Momentum of SGD, in [0, 1].
        weight_decay: L2 penalty of SGD.
        nesterov: Whether the momentum is Nesterov's; None: True.
        optimizer: ``"lars"`` makes the recipe for `LARS` instead, see `LarsMinibatch`: a rate by
            the size of the batch where ``reference_lr`` is None, a warm-up from 0 over 5 epochs, or
            14 for 32,768 and more, then a polynomial decay without ``milestones``; no Nesterov.

    Returns:
        The recipe; ``SGD(params, **recipe.sgd_options())`` uses it, or
        ``LARS(params, **recipe.lars_options())``. ``print(recipe)`` tells it.

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
    if optimizer not in ("sgd", "lars"):
        raise ValueError(f"optimizer={optimizer!r} is unknown, it must be 'sgd' or 'lars'")
    if reference_lr is not None:
        reference_lr = finite("reference_lr", reference_lr, 0.0, exclusive=True)
    per_epoch = _steps_per_epoch(batch_size, steps_per_epoch, dataset_size, drop_last)
    momentum = finite("momentum", momentum, 0.0, 1.0)
    if optimizer == "lars":
        if milestones is not None:
            raise ValueError(
                f"milestones={shown(milestones)} with optimizer='lars', whose rate decays without "
                "drops: leave milestones out"
            )
        return LarsMinibatch.of(
            batch_size,
            per_epoch,
            steps_of(None, epochs, per_epoch),
            reference=(reference_lr, reference_batch),
            warmup_epochs=warmup_epochs,
            momentum=momentum,
            weight_decay=finite("weight_decay", weight_decay, 0.0),
            nesterov=bool(nesterov),
        )
    reference_lr = 0.1 if reference_lr is None else reference_lr
    warmup_epochs = 5 if warmup_epochs is None else warmup_epochs
    milestones = (30, 60, 80) if milestones is None else milestones
    nesterov = True if nesterov is None else nesterov
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
