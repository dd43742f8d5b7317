"""What a large-minibatch recipe works out."""

from dataclasses import dataclass
from typing import Any

from ..schedules import Schedule


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
            >>> from fused_warmup import large_minibatch
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
