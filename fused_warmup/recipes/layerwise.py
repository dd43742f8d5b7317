"""The recipe for LARS, for minibatches beyond those that linear scaling reaches."""

from dataclasses import dataclass
from typing import Any

from ..schedules import linear_warmup, polynomial
from ..schedules.checks import steps_of
from .base import LargeMinibatch

# (batch size below, learning rate, epochs of warm-up), of ResNet-50 on ImageNet.
RATES = ((8192, 5.0, 5), (16_384, 10.0, 5), (32_768, 25.0, 5), (None, 32.0, 14))
POWER = 2.0


@dataclass(frozen=True, slots=True)
class LarsMinibatch(LargeMinibatch):
    """What ``large_minibatch(..., optimizer="lars")`` worked out.

    With W steps of warm-up of T in all, the schedule's factor is ``t / W`` for ``t < W`` and
    ``(1 - (t - W) / (T - W)) ** 2`` from then on. Where no ``reference_lr`` is given, the rate is 5
    for a batch below 8,192, 10 below 16,384, 25 below 32,768 and 32 from there, where the warm-up
    takes 14 epochs instead of 5; else it is scaled linearly.

    Source:
        You et al. 2017 (arXiv:1708.03888), algorithm 1, for LARS, its trust coefficient of 0.001
        and the decay ``(1 - t / T) ** 2``, as MindSpore's page of ``nn.LARS`` quotes it. The rates
        and warm-ups: tensorflow/models, ``official/r1/resnet/resnet_run_loop.py``,
        ``poly_rate_fn``; its decay begins after the warm-up, too. Momentum 0.9, a weight decay of
        0.0001, and biases and batch normalization left out of both decay and rates: MLPerf's
        ``lars_optimizer.py``, see `split_weight_decay`.

    Example:
        >>> from fused_warmup import large_minibatch
        >>> recipe = large_minibatch(32_768, dataset_size=1_281_167, optimizer="lars")
        >>> print(recipe)
        large minibatch of 32768 by LARS (You et al. 2017, arXiv:1708.03888)
          learning rate  32 for ResNet-50 on ImageNet
          warm-up        0 to 32 in equal increments over 560 steps
          decay          polynomial of power 2 to 0
          length         3600 steps, 40 per epoch
          LARS           momentum 0.9, weight decay 0.0001, trust coefficient 0.001
        >>> [round(recipe.lr * recipe.schedule(t), 4) for t in (0, 280, 560, 2080, 3600)]
        [0.0, 16.0, 32.0, 8.0, 0.0]
    """

    trust_coefficient: float = 0.001

    @classmethod
    def of(
        cls,
        batch_size: int,
        per_epoch: int,
        total: int,
        *,
        reference: tuple[float | None, int],
        warmup_epochs: float | None,
        momentum: float,
        weight_decay: float,
        nesterov: bool,
    ) -> "LarsMinibatch":
        """Make the recipe; the arguments are those of `large_minibatch`, checked.

        Raises:
            ValueError: The warm-up is as long as the training.
        """
        reference_lr, reference_batch = reference
        lr, epochs = next((lr, e) for below, lr, e in RATES if below is None or batch_size < below)
        if reference_lr is not None:
            lr = batch_size / reference_batch * reference_lr
        given = epochs if warmup_epochs is None else warmup_epochs
        warmup = steps_of(None, given, per_epoch, in_epochs="warmup_epochs", minimum=0)
        if warmup >= total:
            raise ValueError(
                f"the warm-up of {warmup} steps must end before the training of {total} does: give "
                "warmup_epochs, or train longer"
            )
        schedule = polynomial(total - warmup, power=POWER)
        if warmup:
            schedule = linear_warmup(warmup).then(schedule)
        return cls(
            lr=lr,
            schedule=schedule,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=nesterov,
            batch_size=batch_size,
            reference_lr=lr if reference_lr is None else reference_lr,
            reference_batch=batch_size if reference_lr is None else reference_batch,
            steps_per_epoch=per_epoch,
            warmup_steps=warmup,
            drop_steps=(),
            gamma=1.0,
            total_steps=total,
        )

    def lars_options(self) -> dict[str, Any]:
        """Return the keyword arguments for ``fused_warmup.LARS(params, **recipe.lars_options())``.

        Example:
            >>> from fused_warmup import large_minibatch
            >>> recipe = large_minibatch(8192, steps_per_epoch=156, optimizer="lars")
            >>> recipe.lars_options()["lr"], recipe.lars_options()["trust_coefficient"]
            (10.0, 0.001)
        """
        names = ("lr", "momentum", "weight_decay", "nesterov", "schedule", "trust_coefficient")
        return {name: getattr(self, name) for name in names}

    def sgd_options(self) -> dict[str, Any]:
        """Raise: the rates are far too high for SGD.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"the recipe is for LARS, whose rate of {self.lr:g} is far too high for SGD: use "
            "LARS(params, **recipe.lars_options()), or large_minibatch(..., optimizer='sgd')"
        )

    def __str__(self) -> str:
        whence = "for ResNet-50 on ImageNet"
        if self.reference_batch != self.batch_size:
            whence = f"= {self.reference_lr:g} x {self.batch_size}/{self.reference_batch}"
        warmup = f"0 to {self.lr:.6g} in equal increments over {self.warmup_steps} steps"
        kind = f"momentum {self.momentum:g}{', Nesterov' * self.nesterov}"
        trust = f"trust coefficient {self.trust_coefficient:g}"
        lines = {
            "learning rate": f"{self.lr:.6g} {whence}",
            "warm-up": warmup if self.warmup_steps else "none, as asked",
            "decay": f"polynomial of power {POWER:g} to 0",
            "length": f"{self.total_steps} steps, {self.steps_per_epoch} per epoch",
            "LARS": f"{kind}, weight decay {self.weight_decay:g}, {trust}",
        }
        title = f"large minibatch of {self.batch_size} by LARS (You et al. 2017, arXiv:1708.03888)"
        return "\n".join((title, *(f"  {name:<15}{text}" for name, text in lines.items())))
