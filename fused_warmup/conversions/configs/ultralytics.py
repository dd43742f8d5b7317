"""Ultralytics' training arguments: a warm-up batch by batch, with steps ever further apart."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from typing_extensions import override

from ...schedules.checks import whole
from ...schedules.decay import constant
from ...schedules.schedule import Schedule
from ...schedules.segment import Kind, Segment
from .converted import ConvertedConfig
from .reading import Options, mapping_of
from .ultralytics_clock import Clock

DEFAULTS: dict[str, Any] = {
    "epochs": 100,
    "time": None,
    "batch": 16,
    "optimizer": "auto",
    "cos_lr": False,
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
    "warmup_epochs": 3.0,
    "warmup_momentum": 0.8,
    "warmup_bias_lr": 0.1,
    "nbs": 64,
}
"""Those of cfg/default.yaml, as far as they move the rates or are options of SGD."""
WITH_MOMENTUM = ("sgd", "musgd", "rmsprop")
OPTIMIZERS = (*WITH_MOMENTUM, "adam", "adamax", "adamw", "nadam", "radam")


@dataclass(frozen=True, slots=True)
class UltralyticsConfig(ConvertedConfig):
    """Ultralytics' rates: what every converted config has, and the schedule of the biases.

    Args:
        bias_schedule: Factor on ``lr`` for the biases; ``schedule`` is all others'.
        weight_decay: Of the weights alone, scaled to the batch as Ultralytics does.
        steps: Updates of the whole training.
    """

    bias_schedule: Schedule = field(default_factory=constant)
    weight_decay: float = 0.0
    steps: int = 0

    @override
    def _said(self) -> dict[str, Any]:
        return {**ConvertedConfig._said(self), "weight_decay": self.weight_decay}

    def param_groups(self, model: torch.nn.Module) -> list[dict[str, Any]]:
        """Return the three groups of Ultralytics' optimizer: weights, norm layers', biases.

        The weight decay is the weights' alone, the biases have their schedule:
        ``SGD(rates.param_groups(model), **rates.sgd_options())``. Groups without parameters are
        left out, and so are parameters that do not require gradients.

        Example:
            >>> import fused_warmup
            >>> arguments = {"optimizer": "SGD", "batch": 64}
            >>> rates = fused_warmup.from_ultralytics(arguments, batches_per_epoch=100)
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
            >>> opt = fused_warmup.SGD(rates.param_groups(model), **rates.sgd_options())
            >>> [round(rate, 4) for rate in opt.get_last_lr()]
            [0.0, 0.0, 0.1]
        """
        members: dict[str, list[torch.nn.Parameter]] = {"weight": [], "norm": [], "bias": []}
        norms = tuple(each for name, each in vars(torch.nn).items() if "Norm" in name)
        for module_name, module in model.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                path = f"{module_name}.{name}"
                is_norm = isinstance(module, norms) or "logit_scale" in path
                kind = "bias" if "bias" in path else "norm" if is_norm else "weight"
                if parameter.requires_grad:
                    members[kind].append(parameter)
        options: dict[str, dict[str, Any]] = {
            "weight": {"weight_decay": self.weight_decay},
            "norm": {"weight_decay": 0.0},
            "bias": {"weight_decay": 0.0, "schedule": self.bias_schedule},
        }
        return [{"params": members[kind], **options[kind]} for kind in members if members[kind]]


def from_ultralytics(
    arguments: Any, batches_per_epoch: int, *, least_warmup: int = 0
) -> UltralyticsConfig:
    """Convert the training arguments of Ultralytics (YOLO).

    With N = ``batches_per_epoch`` and ``W = round(N min(warmup_epochs, epochs - 1))``, the factor
    on ``lr0`` at batch b of epoch ``e = b // N`` is

    - ``f(e) = lrf + (1 - lrf)(1 - e / epochs)``, or with ``cos_lr``
      ``lrf + (1 - lrf)(1 + cos(pi e / epochs)) / 2``;
    - while b < W, ``w + (f(e) - w) b / W`` with w = 0, and w = warmup_bias_lr / lr0 for the
      biases, whose rate so falls while the others' rises. The momentum rises likewise, from
      ``warmup_momentum`` towards ``momentum``. What batch W - 1 has come to stays: the rate to the
      end of the epoch, the momentum for good.

    An update follows when ``accumulate`` batches have come, which rises over the warm-up from 1 to
    ``nbs / batch``, rounded: early updates are close together. Schedules count **updates**; each
    has the factor of its last batch. Where ``nbs / batch`` is 1 or less that is every batch; the
    first three factors are then 0, f(0) / W and 2 f(0) / W.

    Args:
        arguments: A mapping of the arguments, an object that has them, or the path of a run's
            ``args.yaml``. ``optimizer`` must be named: "auto" leaves lr0 and momentum aside.
        batches_per_epoch: Batches of an epoch, ``len(trainer.train_loader)``.
        least_warmup: Batches that the warm-up has at least, to the end of the training if need be:
            pass 100 for releases 8.0 to 8.3. Theirs reaches its end, in batch W.

    Returns:
        ``schedule`` and ``bias_schedule`` on ``lr`` = lr0, the momentum and its schedule for
        optimizers whose groups have one (not Adam's), ``weight_decay`` times
        ``batch * accumulate / nbs``, and ``steps``. ``left`` holds the other arguments that are
        set.

    Raises:
        TypeError: A value of the wrong type.
        OSError: The file cannot be read.
        ValueError: ``optimizer`` is "auto"; ``time`` sets the epochs by the clock; a ``batch`` that
            AutoBatch chooses; a value out of its range; a misspelt name; no update at all.

    Source:
        ultralytics/engine/trainer.py at commit 0001630, cfg/default.yaml; the warm-up after
        YOLOv5's train.py.

    Example:
        >>> arguments = {"optimizer": "SGD", "batch": 64, "epochs": 4, "warmup_epochs": 1, "lrf": 0}
        >>> rates = from_ultralytics(arguments, batches_per_epoch=4)
        >>> [round(rates.lr_at(t), 4) for t in range(9)]
        [0.0, 0.0025, 0.005, 0.0075, 0.0075, 0.0075, 0.0075, 0.0075, 0.005]
        >>> [round(rates.lr * rates.bias_schedule(t), 4) for t in range(5)]
        [0.1, 0.0775, 0.055, 0.0325, 0.0075]
        >>> [round(rates.momentum * rates.momentum_schedule(t), 4) for t in (0, 2, 4)]
        [0.8, 0.8685, 0.9028]
    """
    options = Options("Ultralytics", mapping_of(arguments, "Ultralytics"), DEFAULTS)
    clock = Clock.of(options, whole("batches_per_epoch", batches_per_epoch, 1), least_warmup)
    optimizer = _optimizer(options)
    lr, momentum = options.number("lr0", exclusive=True), options.number("momentum", 0.0)
    end = options.number("lrf")
    rule = Segment(Kind.COS if options.flag("cos_lr") else Kind.POLY, length=clock.epochs, b=end)
    bias, first = options.number("warmup_bias_lr") / lr, options.number("warmup_momentum")
    momenta = None
    if optimizer in WITH_MOMENTUM and momentum > 0.0 and clock.warmup:
        momenta = _schedule(clock, None, first / momentum)
    decay = options.number("weight_decay")
    left = options.left(unset=False)
    if optimizer != "sgd":
        beta = {} if optimizer in WITH_MOMENTUM else {"momentum": momentum}  # Adam's first
        left = {"optimizer": options["optimizer"], **beta, **left}
    return UltralyticsConfig(
        f"Ultralytics with {options['optimizer']}",
        _schedule(clock, rule, 0.0),
        lr=lr,
        momentum=momentum if optimizer in WITH_MOMENTUM else None,
        momentum_schedule=momenta,
        options={"nesterov": True} if optimizer == "sgd" else {},
        left=left,
        bias_schedule=_schedule(clock, rule, bias),
        weight_decay=decay * options["batch"] * clock.nominal / options["nbs"],
        steps=clock.steps,
    )


def _optimizer(options: Options) -> str:
    named = options["optimizer"]
    if str(named).lower() == "auto":
        raise ValueError(
            "optimizer='auto' makes Ultralytics choose the optimizer, lr0 and momentum from the "
            "data: pass arguments with the three that its log names"
        )
    return options.choice("optimizer", OPTIMIZERS, fold=True)


def _schedule(clock: Clock, rule: Segment | None, low: float) -> Schedule:
    """The factor of each update: from ``low`` in the warm-up, then as the rule of the epoch.

    Without a rule, as for the momentum, what the warm-up has come to stays.
    """

    def target(batch: int) -> float:
        return 1.0 if rule is None else rule.value_at(batch // clock.batches)

    segments = [
        Segment(
            start=update,
            origin=update,
            shift=batch / apart,
            length=clock.warmup / apart,
            a=low,
            b=target(batch),
        )
        for update, batch, apart in clock.runs(by_epoch=rule is not None)
    ]
    first, batch, last = len(clock.early), clock.later, clock.warmup - 1
    if (
        last >= 0
        and first < clock.steps
        and (rule is None or batch // clock.batches == last // clock.batches)
    ):
        # Nothing sets the rate before the next epoch begins, and nothing the momentum.
        reached = low + (target(last) - low) * clock.reached
        segments.append(Segment.constant(reached, first))
        end = (last // clock.batches + 1) * clock.batches
        more = max(0, -(-(end - batch) // clock.apart))
        first, batch = first + more, batch + more * clock.apart
    if rule is not None and first < clock.steps:
        segments += _main(clock, rule, first, batch)
    return Schedule(tuple(segments), clock.steps)


def _main(clock: Clock, rule: Segment, first: int, batch: int) -> list[Segment]:
    """The rule of the epoch from update ``first`` on, which follows ``batch``."""
    batches, apart = clock.batches, clock.apart
    epoch, within = divmod(batch, batches)
    if rule.a == rule.b:
        return [Segment.constant(rule.b, first)]
    if batches % apart == 0:  # as many updates in each epoch
        stair = batches // apart
        origin = first - within // apart - epoch * stair
        length = rule.length * stair
        return [replace(rule, start=first, origin=origin, stair=stair, length=length)]
    starts = {
        first + max(0, -(-(each * batches - batch) // apart)): rule.value_at(each)
        for each in range(epoch, clock.epochs)
    }
    return [
        Segment.constant(value, start) for start, value in starts.items() if start < clock.steps
    ]
