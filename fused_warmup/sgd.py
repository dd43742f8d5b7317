"""torch.optim.SGD's contract over one fused launch a step and device."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ._groups import options
from ._optim.stepping import FusedOptimizer
from .schedules import Schedule


class SGD(FusedOptimizer):
    r"""Stochastic gradient descent whose kernel computes the learning rate itself.

    A drop-in for torch.optim.SGD. One launch a step and device applies weight decay, momentum and
    the update to every parameter, at the rate ``group["lr"] * schedule(t)``, where ``t`` counts the
    updates *applied* so far and lives on the device: a step that AMP skips does not advance the
    schedule, and there is no scheduler to step. The momentum may follow a schedule, too. Without
    one the trajectory is torch.optim.SGD's own.

    For a parameter :math:`p` with gradient :math:`g` (negated under ``maximize``) a step computes

    .. math::
        d = g + \lambda p, \quad b \leftarrow \mu b + (1 - \tau) d, \quad
        p \leftarrow p - \eta_t \, (d + \mu b \text{ if nesterov else } b)

    with :math:`b \leftarrow d` on the parameter's own first applied step. Elements are computed in
    float32 (float64 for float64 parameters), the rate in float64.

    Args:
        params: Tensors, named tensors, or dicts that define groups; a group may set any of the
            options below but ``foreach``, ``fused`` and ``backend``, schedules too.
        lr: The base learning rate, a float or a tensor of one element, which is read on its device
            each step.
        momentum: Momentum factor :math:`\mu`.
        dampening: Dampening :math:`\tau` of the gradient's part in the momentum.
        weight_decay: L2 penalty :math:`\lambda`.
        nesterov: Nesterov momentum; needs a momentum and no dampening.
        maximize: Ascend instead of descend.
        foreach: Accepted for torch.optim.SGD's sake; every step is fused.
        differentiable: Let autograd run through the step (by the reference backend).
        fused: Accepted for torch.optim.SGD's sake; every step is fused.
        schedule: The factor on ``lr`` at each step; None: always 1. Groups hold it as plain data
            (`Schedule.to_dict`), so checkpoints load under ``weights_only=True``. It is a copy that
            cannot be edited in place: assign another as ``group["schedule"]``.
        momentum_schedule: The factor on ``momentum`` at each step, in the same way; a step at which
            it is 0 leaves the momentum buffers alone. OneCycleLR's cycle of the momentum is
            `schedules.one_cycle_momentum`.
        ema_decay: Decay of an exponential moving average of each parameter, which the step updates
            after the parameter: ``ema <- lerp(ema, p, 1 - ema_decay)``, by torch.lerp's arithmetic.
            It starts as a copy of the parameter and is ``state[p]["ema"]``, float32 for half
            parameters. See `averaged` and `swap_averaged`. None: no averages.
        ema_schedule: The factor on ``ema_decay`` at each step; see `ema_warmup`.
        ema_every: Steps from one update of the averages to the next: they are made at steps of
            which it is a divisor, as in Lightning's ``update_every_n_steps``.
        ema_start: The first step whose parameters go into the averages. The first of these updates
            is a copy, as it is in torch.optim.swa_utils.AveragedModel, and until then averages are
            the present parameters. None: averages of the initial parameters, from the first step
            on.
        master_weights: Whether bfloat16 and float16 parameters get a float32 master copy,
            ``state[p]["master_param"]``, and float32 momentum: the step updates the master and
            writes its values into the parameter, rounded. A parameter that is written to
            elsewhere is read into its master; after writing through ``.data``, call
            `reread_masters`.
        backend: ``"cuda"``, ``"triton"``, ``"cpu"`` or ``"reference"`` for all parameters; None
            lets each parameter's device, dtype and layout decide.
        unscale: Whether the step itself unscales gradients for `torch.amp.GradScaler`, without a
            host sync. False hands that back to the scaler, as Lightning's gradient clipping wants.
        write_grads: Whether gradients that the step unscales are left unscaled in ``.grad``, as
            torch's fused optimizers leave them. False leaves them scaled and saves writing them.

    Raises:
        TypeError: An option of the wrong type, or a parameter that ``backend`` cannot update.
        ValueError: An option out of range; the message says which values are good.
        RuntimeError: The backend cannot run here, with the original error as its cause.

    Example:
        >>> import torch, fused_warmup
        >>> from fused_warmup.schedules import cosine, linear_warmup
        >>> model = torch.nn.Linear(3, 1)
        >>> schedule = linear_warmup(4).then(cosine(6))
        >>> opt = fused_warmup.SGD(model.parameters(), lr=0.8, momentum=0.9, schedule=schedule)
        >>> for _ in range(3):
        ...     opt.zero_grad()
        ...     model(torch.ones(2, 3)).sum().backward()
        ...     opt.step()
        >>> opt.steps_applied, opt.get_last_lr()
        (3, [0.4])
    """

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        schedule: Schedule | Mapping[str, Any] | None = None,
        momentum_schedule: Schedule | Mapping[str, Any] | None = None,
        ema_decay: float | None = None,
        ema_schedule: Schedule | Mapping[str, Any] | None = None,
        ema_every: int = 1,
        ema_start: int | None = None,
        master_weights: bool = False,
        backend: str | None = None,
        unscale: bool = True,
        write_grads: bool = True,
    ) -> None:
        defaults = {
            **options.DEFAULTS,
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
            "schedule": schedule,
            "momentum_schedule": momentum_schedule,
            "ema_decay": ema_decay,
            "ema_schedule": ema_schedule,
            "ema_every": ema_every,
            "ema_start": ema_start,
            "master_weights": master_weights,
        }
        options.settle([defaults])
        options.check_nesterov(defaults)
        if fused and differentiable:
            raise RuntimeError("`fused` does not support `differentiable`: pass one of the two")
        if fused and foreach:
            raise RuntimeError("`fused` and `foreach` cannot be `True` together: pass one of them")
        if differentiable and backend not in (None, "reference"):
            raise ValueError(
                f"differentiable=True with backend={backend!r}: only the reference backend can be "
                "differentiated; pass backend=None or backend='reference'"
            )
        super().__init__(
            params, defaults, backend=backend, unscale=unscale, write_grads=write_grads
        )
