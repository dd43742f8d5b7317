"""The update in plain PyTorch: every device, dtype and feature, and the oracle of all tests.

`sgd_reference` restates ``csrc/math/sgd.h`` for whole tensors. Its operations are those of
torch.optim.SGD's single-tensor loop, in that order, so that float32 and float64 results are torch's
own bits; bfloat16 and float16 are widened to float32 first and rounded once at the end, as every
fused kernel does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._tensors.memory import has_memory, is_expanded, is_row, is_scalar, on_host
from .._tensors.shards import local_of, split_as
from ..schedules import Schedule
from ..schedules.checks import INT64_MAX
from .extras import ema_weight, reread_master, widened
from .lars import layer_rate_of, sum_of_squares

FIRST_STEP_NEVER = -1
FIRST_STEP_BEFORE = -2


def sgd_reference(
    param: Tensor,
    grad: Tensor,
    momentum_buffer: Tensor | None,
    *,
    lr: float | Tensor,
    weight_decay: float | Tensor,
    momentum: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    first_step: bool,
    layer_rate: float | None = None,
) -> None:
    """Update ``param`` and ``momentum_buffer`` in place.

    Args:
        param: The parameter, of any shape and dtype.
        grad: Its unscaled gradient, dense or (without momentum or weight decay) sparse.
        momentum_buffer: Of the parameter's shape and dtype; None without momentum.
        lr: The learning rate of this step, schedule included. Autograd runs through a tensor.
        weight_decay: L2 penalty. Autograd runs through a tensor.
        momentum: Momentum factor.
        dampening: Dampening of the gradient's part in the momentum.
        nesterov: Whether momentum is Nesterov's.
        maximize: Whether to ascend.
        first_step: Whether this is the parameter's own first applied step.
        layer_rate: LARS's factor on the gradient, weight decay included.
    """
    d = -grad if maximize else grad
    if isinstance(weight_decay, Tensor):
        d = d.addcmul(param.clone(), weight_decay.to(d.dtype))
    elif weight_decay != 0:
        d = d.add(param, alpha=weight_decay)
    if layer_rate is not None:
        d = d * layer_rate
    if momentum != 0:
        assert momentum_buffer is not None
        grad_weight = 1.0 if first_step else 1.0 - dampening
        momentum_buffer.mul_(momentum).add_(d, alpha=grad_weight)
        if not nesterov:
            d = momentum_buffer
        elif d.is_sparse:
            d = (momentum_buffer * momentum).add_(d)
        else:
            d = d.add(momentum_buffer, alpha=momentum)
    if isinstance(lr, Tensor) and lr.requires_grad:
        param.addcmul_(d, lr.to(d.dtype), value=-1)
    else:
        param.add_(d, alpha=-float(on_host(lr, 1.0)))


def count_step(counter: Tensor) -> None:
    """Count one step, without a sync. At its end a count stays, as in ``csrc/math/schedule.h``."""
    counter.add_(counter.ne(INT64_MAX))


def put_gradient(param: Tensor, grad: Tensor, values: Tensor) -> None:
    """Write ``values`` into a parameter's gradient, which may share memory within itself."""
    strided = grad.layout == torch.strided
    if strided and any(n > 1 and s == 0 for n, s in zip(grad.shape, grad.stride(), strict=True)):
        param.grad = values.to(grad.dtype)
    else:
        grad.copy_(values)


def unscaled(
    grad: Tensor, grad_scale: Tensor | float | None, found_inf: Tensor | None = None
) -> Tensor:
    """Return a gradient as GradScaler's ``unscale_`` leaves it; unchanged in a skipped step."""
    if grad_scale is None:
        return grad
    scale = torch.as_tensor(grad_scale, device=grad.device)
    factor = scale.double().reciprocal().float()
    if found_inf is not None:
        factor = torch.where(found_inf.to(grad.device) == 0, factor, 1.0)
    return grad * factor


class ReferencePlan:
    """The steps of the reference backend on one device. Synchronises with the device each step."""

    def __init__(
        self,
        params: Sequence[Tensor],
        momentum_buffers: Sequence[Tensor | None],
        first_steps: Sequence[Tensor | None],
        group_of: Sequence[int],
        schedules: Sequence[Schedule],
        schedule_of: Sequence[int],
        momentum_schedule_of: Sequence[int],
        t: Tensor,
        lr: Tensor,
        emas: Sequence[Tensor | None] = (),
        masters: Sequence[Tensor | None] = (),
        ema_schedule_of: Sequence[int] = (),
        norms: Any = None,
    ) -> None:
        self.params = params
        self.emas = emas or [None] * len(params)
        self.masters = masters or [None] * len(params)
        self.ema_schedule_of = ema_schedule_of
        self.momentum_buffers = momentum_buffers
        self.first_steps = first_steps
        self.group_of = group_of
        self.schedules = schedules
        self.schedule_of = schedule_of
        self.momentum_schedule_of = momentum_schedule_of
        self.t = t
        self.lr = lr
        self.norms = norms  # of LARS: a PartNorms
        self.active: list[Tensor] = []
        self._is_measured = False

    def prepare(
        self,
        groups: Sequence[Mapping[str, Any]],
        grads: Sequence[Tensor | None] | None,
        grad_scale: Tensor | None,
        found_inf: Tensor | None,
        write_grads: bool,
    ) -> bool:
        """Read what the step needs and touch nothing. False: it needs another form or plan."""
        if grads is None:  # nobody has checked them
            return False
        if not (is_scalar(self.t, torch.int64) and is_row(self.lr, len(groups))):
            return False
        for i, grad in enumerate(grads):
            if grad is not None and not self._has_state_for(i, groups[self.group_of[i]]):
                return False
        self._groups = groups
        self._grads = list(grads)
        self._is_measured = False
        self._grad_scale, self._found_inf = grad_scale, found_inf
        self._write_grads = write_grads
        self.active = [p for p, g in zip(self.params, self._grads, strict=True) if g is not None]
        return True

    def _has_state_for(self, i: int, group: Mapping[str, Any]) -> bool:
        p, buffer, mark = self.params[i], self.momentum_buffers[i], self.first_steps[i]
        master = self.masters[i]
        p = p if master is None else master
        if mark is not None and not is_scalar(mark, torch.int64):
            return False
        if group["momentum"] == 0:
            return True
        if buffer is None or (group["dampening"] != 0 and self.first_steps[i] is None):
            return False
        alike = (buffer.dtype, buffer.shape) == (p.dtype, p.shape)
        return alike and has_memory(buffer) and not is_expanded(buffer)

    @torch.no_grad()
    def measure(self) -> None:
        """Leave the sums of squares of parameters and gradients in ``norms``."""
        for i, grad in enumerate(self._grads):
            if grad is None:
                continue
            param, master, row = self.params[i], self.masters[i], self.norms.rows[i]
            if master is not None:
                reread_master(param, master)
                param = master
            # The update's operations would bring the two together, too.
            own = self._unscaled(split_as(grad, param), widened(param.dtype))
            self.norms.squares[row, 0] = sum_of_squares(param, param)
            self.norms.squares[row, 1] = sum_of_squares(own, param)
        self._is_measured = True

    def _unscaled(self, grad: Tensor, dtype: torch.dtype) -> Tensor:
        return unscaled(grad.to(dtype), self._grad_scale)

    def launch(self, advance: bool) -> bool:
        """Apply the step. False where ``found_inf`` skipped it."""
        if self.norms is not None and not self._is_measured:
            self.measure()
        grads, self._grads = self._grads, []  # no gradient outlives the step for our sake
        if self._found_inf is not None and on_host(self._found_inf, 0.0) != 0.0:
            return False
        t = int(on_host(self.t, 0))
        rates = [self._rate(i, t) for i in range(len(self._groups))]
        momenta = [self._momentum(i, t) for i in range(len(self._groups))]
        weights = [self._ema_weight(i, t) for i in range(len(self._groups))]
        for i, grad in enumerate(grads):
            if grad is None or grad.numel() == 0:
                continue
            group = self.group_of[i]
            with torch.set_grad_enabled(self._groups[group]["differentiable"]):
                self._update(i, grad, rates[group], momenta[group], t)
            ema = self.emas[i]
            if ema is not None and weights[group] != 0:
                self._average(i, ema, weights[group])
        with torch.no_grad():
            for i, rate in enumerate(rates):
                self.lr[i] = rate.detach() if isinstance(rate, Tensor) else rate
            if advance:
                count_step(self.t)
        return True

    def _rate(self, group: int, t: int) -> float | Tensor:
        lr = self._groups[group]["lr"]
        if self.schedule_of[group] < 0:
            return lr  # type: ignore[no-any-return]
        factor = self.schedules[self.schedule_of[group]](t)
        if isinstance(lr, Tensor) and lr.requires_grad:
            with torch.set_grad_enabled(self._groups[group]["differentiable"]):
                return lr * factor
        return float(on_host(lr, 1.0)) * factor

    def _momentum(self, group: int, t: int) -> float:
        momentum, index = self._groups[group]["momentum"], self.momentum_schedule_of[group]
        if index < 0 or momentum == 0:  # 0 times an infinite factor is not 0
            return momentum  # type: ignore[no-any-return]
        return momentum * self.schedules[index](t)  # type: ignore[no-any-return]

    def _ema_weight(self, group: int, t: int) -> float:
        # A part whose parameters have no averages is told of no schedules for them.
        if self._groups[group].get("ema_decay") is None or not self.ema_schedule_of:
            return 0.0
        index = self.ema_schedule_of[group]
        return ema_weight(self._groups[group], self.schedules[index](t) if index >= 0 else 1.0, t)

    @torch.no_grad()
    def _average(self, i: int, ema: Tensor, weight: float) -> None:
        master = self.masters[i]
        param, ema = local_of(self.params[i] if master is None else master), local_of(ema)
        ema.lerp_(param.detach().to(ema.dtype), weight)

    def _update(self, i: int, grad: Tensor, lr: float | Tensor, momentum: float, t: int) -> None:
        param, buffer, flag = self.params[i], self.momentum_buffers[i], self.first_steps[i]
        group = self._groups[self.group_of[i]]
        if momentum == 0:
            buffer = flag = None
        first_step = False
        if flag is not None:
            first_step = on_host(flag, FIRST_STEP_NEVER) in (FIRST_STEP_NEVER, t)
            if first_step:
                flag.fill_(t)
        wide = widened(param.dtype)
        d = self._unscaled(grad, wide)
        if self._grad_scale is not None and self._write_grads:
            put_gradient(param, grad, d)
        layer_rate = None
        if self.norms is not None:
            lr = float(on_host(lr, 1.0))
            squares = self.norms.squares[self.norms.rows[i]].tolist()
            layer_rate, lr = layer_rate_of(squares, group, lr, torch.finfo(wide).max)
        master = self.masters[i]
        narrow = param.dtype != wide
        wide_param = param.to(wide) if narrow else param
        if master is not None:
            reread_master(param, master)
            wide_param = master
        wide_buffer = buffer.to(wide) if buffer is not None and buffer.dtype != wide else buffer
        sgd_reference(
            wide_param,
            d,
            wide_buffer,
            lr=lr,
            weight_decay=group["weight_decay"],
            momentum=momentum,
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            first_step=first_step,
            layer_rate=layer_rate,
        )
        if narrow:
            param.copy_(wide_param)
            if buffer is not None and wide_buffer is not None and wide_buffer is not buffer:
                buffer.copy_(wide_buffer)
