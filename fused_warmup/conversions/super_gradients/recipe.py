"""What training parameters of SuperGradients are here: rates, groups, an optimizer, averages."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch.nn import Module, Parameter
from torch.optim import Optimizer

from ..._advice import advise
from ...schedules.checks import shown
from ...schedules.schedule import Schedule
from . import groups
from .averaging import Averaged
from .build import build, drive, makes_averages
from .optimizer import becomes_sgd, class_of, name_of
from .options import Options
from .rates import read_rates, schedules_of
from .report import report


@dataclass(frozen=True, slots=True)
class SuperGradientsRecipe:
    """Rates, schedules and the optimizer of training parameters, from `from_super_gradients`.

    The rate of a group at optimizer step ``t`` is ``initial_lr[name] * schedules[name](t)``. A
    group whose initial_lr is 0 is frozen: its rate is 0 throughout.

    ``print(recipe)`` says what was taken over, what is left to your loop, with the line that does
    it, and which parameters nobody knows.

    Args:
        initial_lr: Base rate of each group; ``"default"`` holds all that no other group names.
        schedules: Factor on the base rate, one schedule per group.
        steps: Optimizer steps of the whole training.
        summary: What became of the rates, in words.
        optimizer_params: The optimizer's options beside its rate, SuperGradients' defaults
            included: ``SGD(groups, **recipe.optimizer_params)``.
        averaging: The options that average as ``ema`` and ``ema_params`` say, of parameters alone:
            ``SGD(groups, **recipe.optimizer_params, **recipe.averaging)``. Empty without ``ema``.
        momentum_cycle: The options of `SGD` with which CyclicLR cycles the momentum, too.
        named: ``optimizer`` as the training parameters have it: a name, a class or an instance.
        zero_weight_decay_on_bias_and_bn: Whether biases and normalization layers are not decayed.
        clip_grad_norm: The greatest norm of all gradients together; None: any.
        batch_accumulate: Batches whose gradients add up to one step.
        mixed_precision: Whether the loop runs under autocast, with a GradScaler.
        finetune: Whether the model's ``get_finetune_lr_dict`` gives the rates; see `for_model`.
        left: What is left to your loop, each with the line that does it.
        of_no_concern: Parameters on which no step of the optimizer depends.
        unknown: Parameters that SuperGradients does not have.
    """

    initial_lr: dict[str, float]
    schedules: dict[str, Schedule]
    steps: int
    summary: str
    optimizer_params: dict[str, Any] = field(default_factory=dict)
    averaging: dict[str, Any] = field(default_factory=dict)
    momentum_cycle: dict[str, Any] = field(default_factory=dict)
    named: Any = "SGD"
    zero_weight_decay_on_bias_and_bn: bool = False
    clip_grad_norm: float | None = None
    batch_accumulate: int = 1
    mixed_precision: bool = False
    finetune: bool = False
    left: tuple[str, ...] = ()
    of_no_concern: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    _options: Options | None = field(default=None, repr=False, compare=False)

    @property
    def lr(self) -> float:
        """The base rate, where there is one group.

        Raises:
            ValueError: There are several groups.
        """
        return self.initial_lr[self._only()]

    @property
    def schedule(self) -> Schedule:
        """The schedule, where there is one group.

        Raises:
            ValueError: There are several groups.
        """
        return self.schedules[self._only()]

    def _only(self) -> str:
        if len(self.initial_lr) > 1:
            raise ValueError(
                f"there are {len(self.initial_lr)} groups {list(self.initial_lr)}, .lr and "
                ".schedule need a single one: use .initial_lr[name] and .schedules[name], or "
                ".param_groups(model)"
            )
        return next(iter(self.initial_lr))

    def lr_at(self, t: int, group: str = "default") -> float:
        """Return the learning rate of ``group`` at optimizer step ``t``, counted from 0."""
        return self.initial_lr[group] * self.schedules[group](t)

    @property
    def optimizer_class(self) -> Callable[..., Any]:
        """What `optimizer` calls, `SGD` for torch's SGD and otherwise the class that is named.

        Raises:
            TypeError: ``named`` is no name and no class.
            ValueError: Nobody has a class of that name, or its package is not installed.
        """
        cls: Callable[..., Any] = class_of(self.named)
        return cls

    def optimizer(
        self,
        model: Module,
        optimizer_class: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Optimizer:
        """Return the optimizer of the recipe over a model's parameters, which follows its rates.

        torch's SGD becomes `SGD`, with ``averaging``. Every other is the class that the recipe
        names, driven by `attach`; `Attached.of` gives its handle. RMSpropTF, Lamb and Lion are
        SuperGradients' own, or timm's where that is not installed. Layers whose rate is 0 are
        frozen (``requires_grad = False``), as in SuperGradients.

        Args:
            model: The model, under DistributedDataParallel or compiled, too.
            optimizer_class: A class, or a function of groups and options, in place of the recipe's.
            **options: More options of it, or others than ``optimizer_params``: ``fused=True`` lets
                torch's Adam and AdamW read their rates on the device.

        Raises:
            TypeError: An option that the optimizer does not have; parameters in place of the model.
            ValueError: The optimizer is unknown or not installed; groups that do not fit the model;
                ``lr``, which each group has; options of an optimizer that exists.

        Example:
            >>> import torch, fused_warmup
            >>> params = {"initial_lr": 0.1, "max_epochs": 2, "optimizer": "AdamW"}
            >>> recipe = fused_warmup.from_super_gradients(
            ...     {**params, "lr_warmup_epochs": 1}, steps_per_epoch=2
            ... )
            >>> model = torch.nn.Linear(2, 1)
            >>> opt = recipe.optimizer(model)
            >>> for _ in range(3):
            ...     model(torch.ones(1, 2)).sum().backward()
            ...     opt.step()
            >>> type(opt).__name__, [recipe.lr_at(t) for t in range(3)], opt.param_groups[0]["lr"]
            ('AdamW', [0.05, 0.05, 0.1], 0.1)
        """
        recipe = self.for_model(model)
        if optimizer_class is None and isinstance(self.named, Optimizer):
            if options:
                raise ValueError(
                    f"the recipe has an optimizer that exists, to which {list(options)} come too "
                    "late: set them there, or pass optimizer_class="
                )
            return drive(self.named, recipe.schedules)
        cls = optimizer_class or self.optimizer_class
        if self.averaging and becomes_sgd(self.named) and not makes_averages(cls):
            advise(
                f"the recipe averages in the step of fused_warmup.SGD, {name_of(cls)} of "
                f"{cls.__module__} does not: call recipe.averaged_model(model), and its "
                "update_parameters(model) after each step"
            )
        if "lr" in options:
            raise ValueError(
                f"lr={shown(options['lr'])} has no effect, each group has its rate of initial_lr: "
                "change initial_lr and convert again"
            )
        members = recipe._members(model)
        cycled = self.momentum_cycle if makes_averages(cls) else {}
        options = {**self.optimizer_params, **cycled, **options}
        divided = recipe._divided(model, members, options.get("weight_decay", 0.0))
        built = build(cls, divided, options, self.averaging, recipe.schedules["default"])
        recipe._freeze(members)
        return built

    def for_model(self, model: Module) -> "SuperGradientsRecipe":
        """Return the recipe with the rates that ``finetune`` takes from a model, else itself.

        They are those of the model's ``get_finetune_lr_dict(initial_lr)``: by the beginnings of
        parameters' names, 0 for what is frozen. Without such a method ``finetune`` does nothing
        in SuperGradients, and a warning says so.
        """
        if not self.finetune or self._options is None:
            return self
        rates_of = getattr(groups.unwrapped(model), "get_finetune_lr_dict", None)
        if rates_of is None:
            advise(
                f"finetune is set, and {type(model).__name__} has no get_finetune_lr_dict: all of "
                "it is trained at initial_lr, as in SuperGradients"
            )
            return replace(self, finetune=False)
        initial_lr, starts = read_rates(rates_of(self.lr), self._options)
        schedules = schedules_of(self._options, initial_lr, starts)
        return replace(self, initial_lr=initial_lr, schedules=schedules, finetune=False)

    def param_groups(self, model: Module | Iterable[tuple[str, Parameter]]) -> list[dict[str, Any]]:
        """Return optimizer groups with ``params``, ``name``, ``lr`` and ``schedule``.

        As in SuperGradients, a group takes the parameters whose names start with its own name, and
        ``default``, which comes last, the others that require gradients. Parameters of a group
        whose rate is 0 are frozen (``requires_grad = False``) and left out. With
        ``zero_weight_decay_on_bias_and_bn`` each is two: first biases and normalization layers
        with a ``weight_decay`` of 0, then the others with that of ``optimizer_params``.

        Args:
            model: The model, or its ``named_parameters()``, which do not tell normalization layers:
                they are in one group then, and a warning says so.

        Raises:
            TypeError: Parameters without names.
            ValueError: A group without parameters, or a parameter in two groups; ``finetune`` and
                no model.

        Example:
            >>> import torch, fused_warmup
            >>> params = {"initial_lr": {"default": 0.1, "0.": 0.01}, "max_epochs": 1}
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
            >>> recipe = fused_warmup.from_super_gradients(params, steps_per_epoch=10)
            >>> groups = recipe.param_groups(model)
            >>> [(group["name"], group["lr"], len(group["params"])) for group in groups]
            [('0.', 0.01, 2), ('default', 0.1, 2)]
        """
        if isinstance(model, Module):
            recipe = self.for_model(model)
        elif self.finetune:
            raise ValueError(
                "finetune=True takes the rates from the model, got its parameters alone: pass the "
                "model itself"
            )
        else:
            recipe = self
        members = recipe._members(model)
        decay = self.optimizer_params.get("weight_decay", 0.0)
        divided = recipe._divided(model, members, decay)
        recipe._freeze(members)
        return divided

    def averaged_model(self, model: Module) -> Averaged:
        """Return a model whose weights and buffers are averages, for any optimizer.

        torch's ``AveragedModel`` with the decays of ``ema`` and ``ema_params``. Call its
        ``update_parameters(model)`` after each step of the optimizer; it is saved by its own
        ``state_dict()``. `SGD` makes averages of the parameters in its own step, by ``averaging``.

        Raises:
            ValueError: The recipe has no ``ema``.
        """
        if not self.averaging:
            raise ValueError("the recipe has ema=False, there is nothing to average: set ema=True")
        return Averaged(groups.unwrapped(model), self.averaging)

    def _members(
        self, model: Module | Iterable[tuple[str, Parameter]]
    ) -> dict[str, list[Parameter]]:
        if isinstance(model, Module):
            model = groups.unwrapped(model).named_parameters()
        return groups.by_name(model, self.initial_lr)

    def _is_frozen(self, name: str) -> bool:
        return len(self.initial_lr) > 1 and self.initial_lr[name] == 0.0

    def _freeze(self, members: Mapping[str, list[Parameter]]) -> None:
        for name, parameters in members.items():
            if self._is_frozen(name):
                for parameter in parameters:
                    parameter.requires_grad_(False)

    def _divided(
        self, model: Any, members: Mapping[str, list[Parameter]], decay: Any
    ) -> list[dict[str, Any]]:
        divided: list[dict[str, Any]] = []
        splits = self.zero_weight_decay_on_bias_and_bn
        if splits and not isinstance(model, Module):
            advise(
                "zero_weight_decay_on_bias_and_bn is in no group, for names do not tell which "
                "layer is a normalization: pass the model itself, param_groups(model)"
            )
            splits = False
        spared = groups.without_decay(model) if splits else set()
        for name, parameters in members.items():
            if not parameters or self._is_frozen(name):
                continue
            own = {"name": name, "lr": self.initial_lr[name], "schedule": self.schedules[name]}
            if splits:
                without = [p for p in parameters if id(p) in spared]
                rest = [p for p in parameters if id(p) not in spared]
                divided.append({"params": without, "weight_decay": 0.0, **own})
                divided.append({"params": rest, "weight_decay": decay, **own})
            else:
                divided.append({"params": parameters, **own})
        return divided

    def __str__(self) -> str:
        return report(self)
