"""Clipping by the global norm inside the step: gradients are read twice and need not be written.

torch unscales, takes the norm, clips and steps in four passes over the gradients. Here the norm is
taken of the gradients as they are, and what clipping and unscaling would multiply them with goes to
the step as one number on the device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState

from .._tensors.shards import is_flat_shard, is_sharded
from ..schedules.checks import finite
from .clip import Clip
from .counted import CountedOptimizer

EPSILON = 1e-6
"""What torch.nn.utils.clip_grad_norm_ adds to the norm."""


@torch.no_grad()
def clip_grad_norm_(
    optimizer: CountedOptimizer,
    max_norm: float,
    norm_type: float = 2.0,
    *,
    scaler: GradScaler | None = None,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Let the optimizer's next step clip its gradients by their global norm.

    That step multiplies each gradient with ``min(max_norm / (total_norm + 1e-6), 1)``, as
    ``torch.nn.utils.clip_grad_norm_`` would do at once; until then ``.grad`` stays as it is. With
    ``scaler`` this takes the place of ``scaler.unscale_(optimizer)``, too: the step also unscales,
    and is skipped where the norm is not finite. Nothing waits for the device. Call it after the
    last backward of a step, on every rank.

    Of FSDP2's and other DTensors the norm is that of the whole gradients, of all meshes together.
    The step leaves clipped gradients behind unless the optimizer was built with
    ``write_grads=False``, which saves writing them. ``opt.zero_grad()`` drops a clipping that no
    step has used; a model's ``zero_grad()`` does not.

    Args:
        optimizer: The optimizer.
        max_norm: The greatest norm that gradients may have, above 0.
        norm_type: The order of the norm, above 0; ``float("inf")`` for the greatest element.
        scaler: The scaler whose ``scale()`` the loss went through; its ``step(optimizer)`` comes
            next.
        error_if_nonfinite: Raise where the norm is not finite. Waits for the device.

    Returns:
        The norm of the unscaled gradients before clipping, of no dimensions, on the device of the
        first gradient. 0 without any gradient.

    Raises:
        TypeError: The optimizer is none of this package; a bound that is no number.
        ValueError: A bound or order out of range; ``unscale=False`` together with ``scaler``.
        RuntimeError: The optimizer steps in backward, or holds FSDP1's flat shards; the scaler has
            not scaled a loss, or has stepped already; a norm that is not finite.

    Source:
        ``torch.nn.utils.clip_grad_norm_``, from which results differ by the rounding of the factor,
        a float32.

    Example:
        >>> import torch, fused_warmup
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> opt = fused_warmup.SGD([weight], lr=1.0)
        >>> (weight * torch.tensor([3.0, 4.0])).sum().backward()
        >>> fused_warmup.clip_grad_norm_(opt, 1.0)
        tensor(5.)
        >>> opt.step()
        >>> weight.detach()
        tensor([-0.6000, -0.8000])
    """
    grads = _gradients(optimizer)
    bound = finite("max_norm", max_norm, 0.0, exclusive=True)
    order = 0.0 if isinstance(norm_type, bool) else float(norm_type)  # a flag is no order
    if not order > 0.0:
        raise ValueError(
            f"norm_type={norm_type} must be above 0: 2 is the Euclidean norm, float('inf') the "
            "greatest element"
        )
    if scaler is not None and not scaler.is_enabled():
        scaler = None
    scale = None if scaler is None else _scale_of(scaler, optimizer)
    norm = total_norm(grads, order)
    if scale is not None:
        norm = norm / scale.to(norm.device, norm.dtype, non_blocking=True)
    if error_if_nonfinite and not norm.isfinite():
        raise RuntimeError(
            f"the norm of order {order} of the gradients is {float(norm)}, it cannot be clipped: "
            "look for the overflow, or pass error_if_nonfinite=False"
        )
    divisor = ((norm.float() + EPSILON) / bound).clamp(min=1.0)
    if scale is not None:
        divisor = divisor * scale.to(divisor.device, non_blocking=True)
    if grads:
        by_hand = getattr(optimizer, "grad_scale", None) is not None
        optimizer._clip_next(Clip(divisor, knows_scale=scaler is not None or by_hand))
        if scaler is not None:
            _report(scaler, optimizer, norm)
    return norm


def _gradients(optimizer: CountedOptimizer) -> list[Tensor]:
    if not isinstance(optimizer, CountedOptimizer):
        raise TypeError(
            f"got a {type(optimizer).__name__}, it must be a fused_warmup.SGD, whose step clips: "
            "use torch.nn.utils.clip_grad_norm_ for others"
        )
    if optimizer._in_backward is not None:
        raise RuntimeError(
            "the norm of all gradients is known when backward is over, but StepInBackward has "
            "applied them then: call remove() and step as usual"
        )
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if any(map(is_flat_shard, params)):
        raise RuntimeError(
            "parameters are flat shards of FSDP1, of which a rank sees its own part only: call "
            "scaler.unscale_(optimizer) and the model's own clip_grad_norm_"
        )
    return [p.grad for p in params if p.grad is not None]


def total_norm(grads: Sequence[Tensor], norm_type: float) -> Tensor:
    """Return the norm of all gradients as one vector; of DTensors, that of the whole tensors.

    In float32 at least: a float16 would overflow early.
    """
    if not grads:
        return torch.zeros((), device="cpu")
    by_mesh: dict[Any, list[Tensor]] = {}
    for grad in grads:
        by_mesh.setdefault(grad.device_mesh if is_sharded(grad) else None, []).append(grad)  # type: ignore[attr-defined]
    norms: list[Tensor] = []
    for part in by_mesh.values():
        norm = _norm(part, norm_type)
        norm = norm.full_tensor() if is_sharded(norm) else norm  # type: ignore[attr-defined]
        norms.append(norm.to(norms[0].device if norms else norm.device))
    return norms[0] if len(norms) == 1 else _norm(norms, norm_type)


def _norm(tensors: Sequence[Tensor], norm_type: float) -> Tensor:
    if all(tensor.dtype.itemsize >= 4 for tensor in tensors):
        return torch.nn.utils.get_total_norm(tensors, norm_type)
    wide = torch.float64 if any(tensor.dtype.itemsize > 4 for tensor in tensors) else torch.float32
    if any(map(is_sharded, tensors)):
        norms = [torch.linalg.vector_norm(tensor, norm_type, dtype=wide) for tensor in tensors]
    else:
        norms = list(torch._foreach_norm(list(tensors), norm_type, dtype=wide))
    device = norms[0].device
    together: Tensor = torch.stack([norm.to(device) for norm in norms])
    return torch.linalg.vector_norm(together, norm_type)  # type: ignore[no-any-return]


def _scale_of(scaler: GradScaler, optimizer: CountedOptimizer) -> Tensor | None:
    """Return what gradients are multiplied with still, None if the scaler has unscaled them."""
    if not optimizer._step_supports_amp_scaling:
        raise ValueError(
            "the optimizer was built with unscale=False, which leaves unscaling to the scaler: "
            "call scaler.unscale_(optimizer) and torch.nn.utils.clip_grad_norm_, or build it with "
            "unscale=True"
        )
    scale, _ = scaler._check_scale_growth_tracker("clip_grad_norm_")
    stage = scaler._per_optimizer_states[id(optimizer)]["stage"]
    if stage is OptState.STEPPED:
        raise RuntimeError(
            "clip_grad_norm_ comes after scaler.step(optimizer), it must come before: call "
            "scaler.update() once a step"
        )
    return None if stage is OptState.UNSCALED else scale


def _report(scaler: GradScaler, optimizer: CountedOptimizer, norm: Tensor) -> None:
    """Tell the scaler what its own pass over all gradients would find: whether one overflowed.

    It is then in the state in which `GradScaler.unscale_` leaves it.
    """
    state = scaler._per_optimizer_states[id(optimizer)]
    if state["stage"] is OptState.READY:
        overflow = norm.isfinite().logical_not().to(torch.float32)
        state["found_inf_per_device"] = {overflow.device: overflow}
        state["stage"] = OptState.UNSCALED
