"""What users of any optimizer of this package call, beside its step."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn import Module

from .._groups.options import OWN_DEFAULTS
from ..schedules.plain import PlainSchedule
from . import checkpoints
from .averaged import averaged_model, swapped
from .checkpoints.resuming import Source
from .counted import CountedOptimizer
from .restarted import restart
from .scheduler import RateInForce
from .unscheduled import without_schedules


class InGroups:
    """An option that groups hold: as an attribute of the optimizer it would change nothing."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._error = (
            f"an optimizer has no attribute {name!r}, its groups have one each: set "
            f"opt.param_groups[i][{name!r}], or pass {name}= when it is built"
        )

    def __get__(self, optimizer: Any, owner: type) -> Any:
        if optimizer is None:
            return self
        raise AttributeError(self._error)

    def __set__(self, optimizer: Any, value: Any) -> None:
        raise AttributeError(self._error)


class BaseOptimizer(CountedOptimizer):
    """An optimizer with schedules, as users hold it: rates to read, checkpoints to save and load.

    The base of `fused_warmup.SGD`; not made by itself.
    """

    schedule = InGroups()
    momentum_schedule = InGroups()
    ema_decay = InGroups()
    ema_schedule = InGroups()
    ema_every = InGroups()
    ema_start = InGroups()
    master_weights = InGroups()

    def get_last_lr(self) -> list[float]:
        """Return the rate that the last applied step used, one float a group.

        Synchronises with the device; `lr_tensor` does not.
        """
        return self.lr_tensor().tolist()

    def scheduler(self) -> RateInForce:
        """Return a torch LRScheduler that changes nothing and tells the rate of the next step.

        For trainers that insist on a scheduler and loggers that read one; see `RateInForce`.
        """
        return RateInForce(self)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def without_schedules(self) -> AbstractContextManager[None]:
        """Take all schedules off for a ``with`` block, and put them back at its end.

        What takes a scheduler's place rewrites ``group["lr"]``, which a schedule would multiply: a
        finder of rates, torch's SWALR. Inside, the rate is ``group["lr"]`` and the momentum
        ``group["momentum"]``; steps count on. At the end, and where an exception passes, each group
        has its schedules again, also those added inside; one that was given another meanwhile, by
        a load say, keeps that. ``"lr"`` stays what it is then. A `state_dict` or a copy made inside
        has no schedules, and steps in CUDA graphs captured before keep theirs.

        Example:
            >>> import torch, fused_warmup
            >>> weight = torch.zeros(1, requires_grad=True)
            >>> warmup = fused_warmup.linear_warmup(4)
            >>> opt = fused_warmup.SGD([weight], lr=0.8, schedule=warmup)
            >>> weight.sum().backward()
            >>> with opt.without_schedules():
            ...     opt.step()
            ...     print(opt.get_last_lr())
            [0.8]
            >>> opt.step()
            >>> opt.get_last_lr()
            [0.2]
        """
        return without_schedules(self)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def restart_schedule(self, group: int | dict[str, Any]) -> None:
        """Begin a group's schedules anew at the next step: a backbone that thaws warms up.

        The others go on. The schedules of the group, of its learning rate and of its momentum, are
        `Schedule.starting_at` the present step then. A group that is restarted again begins at its
        first step again. Reads the step count from the device; steps in CUDA graphs captured
        before keep the old schedule.

        Args:
            group: One of ``param_groups``, or its index.

        Raises:
            ValueError: It is no group of this optimizer, or follows no schedule.

        Example:
            >>> import torch, fused_warmup
            >>> head, backbone = torch.zeros(1, requires_grad=True), torch.zeros(1)
            >>> warmup = fused_warmup.linear_warmup(4, start=0.25)
            >>> groups = [{"params": [head]}, {"params": [backbone]}]
            >>> opt = fused_warmup.SGD(groups, lr=1.0, schedule=warmup)
            >>> head.sum().backward()
            >>> opt.step(); opt.step()
            >>> opt.restart_schedule(1)
            >>> _ = backbone.requires_grad_()
            >>> opt.step()
            >>> opt.get_last_lr()
            [0.625, 0.25]
        """
        restart(self.param_groups, group, self.steps_applied)

    # -- averages --------------------------------------------------------------------------------

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def averaged(self, model: Module, *, copy_buffers: bool = False) -> Module:
        """Return a module like ``model`` whose parameters are the averages, without a copy.

        Later steps move its parameters, and loads fill them. Parameters without an average, frozen
        ones for example, are the model's own. Its buffers are the model's own, too; copy them and
        call ``torch.optim.swa_utils.update_bn`` for batch normalization's statistics of the
        averaged weights. A half model's averages are float32, and its half buffers and frozen
        parameters become copies in float32.

        Args:
            model: The model that this optimizer trains; of DistributedDataParallel, the one inside
                is taken.
            copy_buffers: Whether the module gets copies of the buffers.

        Returns:
            The module, in the model's mode: call ``eval()`` before an evaluation.

        Raises:
            TypeError: The model is under ``fully_shard``, which cannot be copied.
            ValueError: None of its parameters has an average.

        Example:
            >>> import torch, fused_warmup
            >>> model = torch.nn.Linear(1, 1, bias=False)
            >>> torch.nn.init.zeros_(model.weight).requires_grad_()
            Parameter containing:
            tensor([[0.]], requires_grad=True)
            >>> opt = fused_warmup.SGD(model.parameters(), lr=1.0, ema_decay=0.75)
            >>> model(torch.ones(1, 1)).sum().backward()
            >>> opt.step()
            >>> model.weight.item(), opt.averaged(model).weight.item()
            (-1.0, -0.25)
        """
        return averaged_model(self, model, copy_buffers)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def swap_averaged(self, model: Module) -> AbstractContextManager[None]:
        """Give ``model`` the averages for weights in a ``with`` block, in place.

        At its end, and where an exception passes, the model has its weights again, to the bit.
        Works under DistributedDataParallel and ``fully_shard``. Takes a copy of the weights
        meanwhile; buffers stay what they are. A step inside raises. A model's ``state_dict()`` that
        is saved inside has the averages.

        Args:
            model: The model that this optimizer trains.

        Raises:
            ValueError: None of its parameters has an average.
            RuntimeError: It is inside such a block already.

        Example:
            >>> import torch, fused_warmup
            >>> model = torch.nn.Linear(1, 1)
            >>> opt = fused_warmup.SGD(model.parameters(), lr=1.0, ema_decay=0.999)
            >>> with opt.swap_averaged(model.eval()):
            ...     output = model(torch.ones(1, 1))
        """
        return swapped(self, model)

    def __repr__(self) -> str:
        """As torch has it, with what is used of the options that torch has not.

        A schedule is the calls that make it, and not all of its numbers.
        """
        lines = [f"{self.__class__.__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            for key in sorted(group.keys() - {"params"}):
                value = group[key]
                if key in OWN_DEFAULTS and value == OWN_DEFAULTS[key]:
                    continue
                shown = repr(value.schedule) if isinstance(value, PlainSchedule) else value
                lines.append(f"    {key}: {shown}")
        return "\n".join([*lines, ")"])

    # -- saving and loading ----------------------------------------------------------------------

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def state_dict(self) -> dict[str, Any]:
        """Return the state in torch.optim.SGD's form, with the step count beside the momentum.

        As with torch's optimizers the tensors are those of the optimizer, which its next step
        changes; only the count is a copy. For a state to go back to, take
        ``copy.deepcopy(opt.state_dict())``. A file has copies by itself.
        """
        return checkpoints.save(self)

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def load_state_dict(
        self, state_dict: Mapping[str, Any], *, schedules: Source | None = None
    ) -> None:
        """Load a state dict of this class or of torch.optim.SGD, in place.

        Tensors keep their addresses, a tensor lr too, so a captured graph stays valid. Options come
        from the state dict, except that

        - a schedule given in code stays, with a warning where the state dict has another. Where a
          group has none, it takes that of the state dict: set ``group["schedule"] = None`` before
          others load, torch.distributed.checkpoint or a trainer.
        - of a torch.optim.SGD that a scheduler drove, a group with a schedule takes the rate that
          the scheduler began with (``initial_lr``), of which the schedule is a factor.

        A state without step counts (torch.optim.SGD's) leaves the count as it is: set
        `steps_applied` to say where the schedule goes on.

        Args:
            state_dict: The state dict.
            schedules: Whose schedules to follow where both have one: ``"code"``, ``"checkpoint"``,
                or None for the code's with a warning.

        Raises:
            KeyError: It is no optimizer's state dict.
            TypeError: An option or a parameter's state is of the wrong type.
            ValueError: The groups or shapes are not this optimizer's, an option is out of range, or
                the step counts disagree. Nothing has changed in any case.

        Example:
            >>> import torch
            >>> from fused_warmup import SGD, get_schedule
            >>> weight = torch.zeros(1, requires_grad=True)
            >>> first = SGD([weight], lr=1.0, schedule=get_schedule("linear", 2, 6))
            >>> first.steps_applied = 6
            >>> longer = SGD([weight], lr=1.0, schedule=get_schedule("linear", 2, 12))
            >>> longer.load_state_dict(first.state_dict(), schedules="code")
            >>> longer.steps_applied, longer.scheduler().get_last_lr()
            (6, [0.6])
        """
        checkpoints.load(self, state_dict, schedules)
