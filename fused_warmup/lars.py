"""Layer-wise rates for very large minibatches, in two launches a step and device."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ._groups import options
from ._optim.stepping import FusedOptimizer
from .schedules import Schedule


class LARS(FusedOptimizer):
    r"""SGD whose rate is another for each tensor: layer-wise adaptive rate scaling.

    One launch takes the norms of every parameter and its gradient, a second one updates them all.
    Schedules, the count of steps, gradient scaling, clipping, skipped steps and checkpoints are
    those of `SGD`.

    For a parameter :math:`p` with the unscaled gradient :math:`g` (negated under ``maximize``) and
    :math:`d = g + \lambda p`, a step computes the trust ratio

    .. math::
        r = \frac{c \, \lVert p \rVert}{\lVert g \rVert + \lambda \lVert p \rVert + \epsilon},
        \quad r = 1 \text{ where either norm is 0 or the group has adapt=False},

    then, as in the paper,

    .. math::
        v \leftarrow \mu v + (1 - \tau) \, \eta_t r d, \quad
        p \leftarrow p - (\eta_t r d + \mu v \text{ if nesterov else } v)

    or, with ``lr_in_momentum=False``, as torch.optim.SGD does with :math:`r d` for a gradient,

    .. math::
        v \leftarrow \mu v + (1 - \tau) \, r d, \quad
        p \leftarrow p - \eta_t \, (r d + \mu v \text{ if nesterov else } v).

    The two differ where the rate changes: in the paper's form the momentum keeps the rates of the
    steps before. Norms are sums of float64 squares in a fixed order, so that a run repeats to the
    bit on any number of threads or blocks; elements are computed as in `SGD`.

    Which settings are which library's:

    ========================  ===============================================================
    paper                     the defaults
    MLPerf's reference        the defaults and ``eps=1e-7``; groups without: ``adapt=False``
                              and ``weight_decay=0``
    timm's ``Lars``           ``lr_in_momentum=False, eps=1e-8``; without ``always_adapt``,
                              groups of no weight decay have ``adapt=False``
    Bolts' ``LARS``           as timm's without ``always_adapt``
    apex's ``LARC``           ``lr_in_momentum=False, eps=1e-8, trust_clip=True``,
                              ``trust_coefficient=0.02``
    ========================  ===============================================================

    Args:
        params: As in `SGD`. `split_weight_decay` with ``adapt=False`` makes a group of biases and
            normalization layers that is left out.
        lr: The base learning rate; far higher than SGD's, by about 1 / ``trust_coefficient``.
        momentum: Momentum factor :math:`\mu`.
        dampening: Dampening :math:`\tau`.
        weight_decay: L2 penalty :math:`\lambda`, part of the trust ratio too.
        nesterov: Nesterov momentum.
        trust_coefficient: :math:`c`, called eta in the paper.
        eps: :math:`\epsilon` below the trust ratio.
        trust_clip: LARC's clipping: where both norms are above 0, a tensor's rate is at most
            ``lr``, that is :math:`r \leftarrow \min(r / \eta_t, 1)`.
        lr_in_momentum: Whether the rate is part of the momentum.
        adapt: Whether tensors have their own rates; a group's False leaves it to SGD's.
        maximize: Ascend instead of descend.
        schedule: As in `SGD`, like all that follow.
        momentum_schedule: The factor on ``momentum``.
        ema_decay: Decay of the averages of parameters; None: no averages.
        ema_schedule: The factor on it.
        ema_every: Steps from one update of the averages to the next.
        ema_start: The first step whose parameters go into them.
        master_weights: Whether half parameters get float32 masters, whose norms are taken then.
        backend: The backend for all parameters.
        unscale: Whether the step unscales gradients.
        write_grads: Whether it leaves them so.

    Raises:
        TypeError: An option of the wrong type, or a parameter that ``backend`` cannot update.
        ValueError: An option out of range; the message says which values are good.
        RuntimeError: The backend cannot run here, with the original error as its cause.

    Source:
        You, Gitman, Ginsburg 2017, "Large Batch Training of Convolutional Networks"
        (arXiv:1708.03888), equation 6 and algorithm 1. MLPerf:
        ``image_classification/tensorflow2/lars_optimizer.py`` of mlcommons/training. timm 1.0.31
        ``timm.optim.Lars``, Lightning Bolts ``pl_bolts.optimizers.LARS``, apex
        ``apex.parallel.LARC``. Where a norm is 0, timm clips the ratio of 1, too; apex does not.

    Example:
        >>> import torch, fused_warmup
        >>> weight = torch.full((2, 2), 2.0, requires_grad=True)
        >>> opt = fused_warmup.LARS([weight], lr=10.0, trust_coefficient=0.1)
        >>> (3 * weight).sum().backward()
        >>> opt.step()  # the norms are 4 and 6, the ratio is 0.1 * 4 / 6
        >>> weight[0].tolist()
        [0.0, 0.0]
    """

    _group_defaults: Mapping[str, Any] = MappingProxyType(
        {**options.DEFAULTS, **options.LARS_DEFAULTS}
    )
    _measures = True

    @torch._disable_dynamo  # type: ignore[attr-defined]
    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        trust_coefficient: float = 0.001,
        eps: float = 0.0,
        trust_clip: bool = False,
        lr_in_momentum: bool = True,
        adapt: bool = True,
        maximize: bool = False,
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
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "trust_clip": trust_clip,
            "lr_in_momentum": lr_in_momentum,
            "adapt": adapt,
            "maximize": maximize,
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
        super().__init__(
            params, defaults, backend=backend, unscale=unscale, write_grads=write_grads
        )
