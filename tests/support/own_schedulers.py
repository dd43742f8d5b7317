"""Schedulers that are not torch's own, and functions of the step that remember their calls."""

import random
import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiplicativeLR,
    SequentialLR,
    StepLR,
)

from support import models

Make = Callable[[Optimizer], Any]


class DropsAfter100Calls(LRScheduler):
    """Counts the calls of its own get_lr."""

    calls = 0

    def get_lr(self) -> list[Any]:
        self.calls += 1
        return [base * (1.0 if self.calls <= 100 else 0.1) for base in self.base_lrs]


class HalvesTwice(StepLR):
    """A known class whose get_lr is another's."""

    left = 2

    def get_lr(self) -> list[Any]:
        rates = super().get_lr()
        if self.last_epoch % self.step_size or self.last_epoch == 0:
            return rates
        self.left -= 1
        return rates if self.left >= 0 else [group["lr"] for group in self.optimizer.param_groups]


class StepsTwice(ExponentialLR):
    """A known class whose step is another's."""

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        if self.last_epoch % 10 == 5:
            for group in self.optimizer.param_groups:
                group["lr"] *= 0.5


class FollowsTheOthers(LRScheduler):
    """Looks at the optimizer's groups, which others change too."""

    def get_lr(self) -> list[Any]:
        groups = self.optimizer.param_groups
        return [0.9 * group["lr"] + 0.01 * groups[0]["lr"] for group in groups]


class HoldsTheGroups(LRScheduler):
    """Writes through a reference of its own, and keeps a list of what it has done."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.groups = optimizer.param_groups
        self.history: list[float] = []
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        self.history.append(float(self.groups[0]["lr"]))
        return [base / (1 + len(self.history) // 7) for base in self.base_lrs]


class ThenAnother(LRScheduler):
    """As pytorch-gradual-warmup-lr: it holds a scheduler, and steps it by itself."""

    def __init__(self, optimizer: Optimizer, after: LRScheduler) -> None:
        self.after = after
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        if self.last_epoch < 10:
            return [base * (self.last_epoch + 1) / 10 for base in self.base_lrs]
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        if self.last_epoch >= 10:
            self.after.step()


class MakesAnother(LRScheduler):
    """Builds its second half when it gets there."""

    after: LRScheduler | None = None

    def get_lr(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        if self.last_epoch == 5:
            self.after = ExponentialLR(self.optimizer, 0.9)
        elif self.after is not None:
            self.after.step()


class Sequence(SequentialLR):
    """A subclass of a scheduler that is made of others."""

    def step(self) -> None:  # type: ignore[override]
        super().step()
        if self.last_epoch == 20:
            self._milestones = [40]


class Rolls(LRScheduler):
    """Draws from a generator of its own."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.random = random.Random(7)
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        return [base * self.random.random() for base in self.base_lrs]


class CountsInItsClass(LRScheduler):
    """Keeps its calls where all of its kind see them."""

    calls = 0
    history: list[int] = []  # noqa: RUF012

    def get_lr(self) -> list[Any]:
        CountsInItsClass.calls += 1
        self.history.append(self.last_epoch)
        return [base / (1 + (self.calls + len(self.history)) // 50) for base in self.base_lrs]


class Trainer:
    """Holds all of a training, a thread's lock and an endless generator among it."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.lock, self.batches = optimizer, threading.Lock(), iter(int, 1)
        self.options = {"halve": 30}
        self.scheduler = LambdaLR(optimizer, lambda t: self.factor(t))
        self.calls = 0

    def factor(self, t: int) -> float:
        self.calls = getattr(self, "calls", 0) + 1
        return 0.5 ** (self.calls // self.options["halve"])

    def __del__(self) -> None:
        closed.append(1)

    def __init_subclass__(cls) -> None:
        closed.append(2)


class Module(torch.nn.Module):
    """A LightningModule builds its scheduler like this."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.warmup = 10

    @property
    def length(self) -> int:
        return self.warmup * 2

    def build(self, optimizer: Optimizer) -> LambdaLR:
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(8, 1)), 4)
        return LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / self.length / len(loader)))


closed: list[int] = []


class Counter:
    """A function of the step that remembers its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, t: int) -> float:
        self.calls += 1
        return 1.0 if self.calls <= 60 else 0.5

    def method(self, t: int) -> float:
        return self(t)


def by_nonlocal() -> Callable[[int], float]:
    calls = 0

    def factor(t: int) -> float:
        nonlocal calls
        calls += 1
        return 1.0 if calls <= 60 else 0.5

    return factor


def by_list() -> Callable[[int], float]:
    calls: list[int] = []
    return lambda t: (calls.append(t), 1.0 if len(calls) <= 60 else 0.5)[1]  # type: ignore[func-returns-value]


def by_default() -> Callable[[int], float]:
    def factor(t: int, calls: list[int] = []) -> float:  # noqa: B006
        calls += [t]
        return 1.0 if len(calls) <= 60 else 0.5

    return factor


def by_attribute() -> Callable[[int], float]:
    def factor(t: int) -> float:
        factor.calls += 1  # type: ignore[attr-defined]
        return 1.0 if factor.calls <= 60 else 0.5  # type: ignore[attr-defined]

    factor.calls = 0  # type: ignore[attr-defined]
    return factor


def by_helper() -> Callable[[int], float]:
    calls: list[int] = []

    def note(t: int, where: list[int]) -> None:
        where.append(t)

    def factor(t: int) -> float:
        note(t, calls)
        return 1.0 if len(calls) <= 60 else 0.5

    return factor


def by_iterator() -> Callable[[int], float]:
    factors = iter([0.99**i for i in range(2000)])
    return lambda t: next(factors)


global_calls = 0
global_log: list[int] = []


def by_global(t: int) -> float:
    global global_calls
    global_calls += 1
    return 1.0 if global_calls <= 60 else 0.5


def by_global_list(t: int) -> float:
    global_log.append(t)
    return 1.0 if len(global_log) <= 60 else 0.5


def decorated() -> Callable[[int], float]:
    counter = Counter()

    @wraps(counter.method)
    def factor(t: int) -> float:
        return counter(t)

    return factor


FUNCTIONS: dict[str, Callable[[], Callable[[int], float]]] = {
    "object": Counter,
    "method": lambda: Counter().method,
    "partial": lambda: partial(lambda counter, t: counter(t), Counter()),
    "nonlocal": by_nonlocal,
    "list": by_list,
    "default": by_default,
    "attribute": by_attribute,
    "helper": by_helper,
    "iterator": by_iterator,
    "decorated": decorated,
    "global": lambda: by_global,
    "global list": lambda: by_global_list,
}


def of_lambda(make: Callable[[], Callable[[int], float]]) -> Make:
    return lambda o: LambdaLR(o, make())


OWN: dict[str, Make] = {
    "counts its calls": DropsAfter100Calls,
    "another get_lr": lambda o: HalvesTwice(o, 30, 0.5),
    "another step": lambda o: StepsTwice(o, 0.99),
    "looks at the groups": FollowsTheOthers,
    "holds the groups": HoldsTheGroups,
    "holds another": lambda o: ThenAnother(o, ExponentialLR(o, 0.97)),
    "makes another": MakesAnother,
    "draws": Rolls,
    "draws from all": lambda o: LambdaLR(o, lambda t: random.random()),
    "draws from torch": lambda o: LambdaLR(o, lambda t: float(torch.rand(()))),
    "in its class": CountsInItsClass,
    "of a trainer": lambda o: Trainer(o).scheduler,
    "of a module": lambda o: Module().build(o),
    "a Sequential of its own": lambda o: Sequence(
        o, [ConstantLR(o, 0.1, 10), ExponentialLR(o, 0.99)], [30]
    ),
    "in a Sequential": lambda o: SequentialLR(
        o, [ConstantLR(o, 0.1, 5), DropsAfter100Calls(o), CosineAnnealingLR(o, 9)], [5, 140]
    ),
    "in a Chained": lambda o: ChainedScheduler([DropsAfter100Calls(o), StepLR(o, 50, 0.5)]),
    **{f"LambdaLR by {name}": of_lambda(make) for name, make in FUNCTIONS.items()},
    "two lambdas of one object": lambda o: LambdaLR(o, [Counter(), lambda t: 0.99**t]),
    "MultiplicativeLR": lambda o: MultiplicativeLR(o, by_nonlocal()),
    "CyclicLR": lambda o: CyclicLR(
        o, 0.01, 0.2, 3, scale_fn=Counter(), scale_mode="iterations", cycle_momentum=False
    ),
}


def optimizer(*, momentum: float = 0.9) -> torch.optim.SGD:
    weight, bias = models((5, 3), (7,))
    groups: list[dict[str, Any]] = [{"params": [weight]}, {"params": [bias], "lr": 0.2}]
    opt = torch.optim.SGD(groups, lr=0.1, momentum=momentum, foreach=False)
    opt._opt_called = True  # type: ignore[attr-defined]  # so that torch does not miss our steps
    return opt
