"""A program's part of one tensor: load, math, store. ``csrc/cuda/update.h`` in Triton.

It restates ``csrc/math/sgd.h`` (one element); tests pin it to the reference. Every fused
multiply-add is written out, and launches turn the compiler's own contraction off.
"""

import triton
import triton.language as tl

from fused_warmup import _C

from .extras import EMA, ROUNDED, extras_of, narrowed, update_extras
from .lars import layer_rate_of
from .schedule import load_double, load_int32, load_int64, places

# Of the structs in csrc, in bytes.
PARAM, GRAD, MOMENTUM_BUFFER, FIRST_STEP = map(
    tl.constexpr, places("TensorEntry", "param", "grad", "momentum_buffer", "first_step")
)
WEIGHT_DECAY, DAMPENING, NESTEROV, MAXIMIZE = map(
    tl.constexpr, places("Group", "weight_decay", "dampening", "nesterov", "maximize")
)
FIRST_STEP_NEVER = tl.constexpr(_C.TABLES["constants"]["FIRST_STEP_NEVER"])

UNIT = tl.constexpr(16)  # elements that allow wide accesses: a divisor of line.h's multiples
ALIGNMENT = tl.constexpr(16)  # bytes of the widest access


@triton.jit
def update_elements(
    param_ptr,
    grad_ptr,
    buffer_ptr,
    n,
    hyper,
    inv_scale,
    layer_rate,
    extras,
    start,
    OPMATH: tl.constexpr,
    WRITE_GRADS: tl.constexpr,
    VECTOR: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Update the first ``n`` elements, at most SIZE of them; ``start`` lie before them."""
    neg_lr, weight_decay, momentum, grad_weight, sign, has_decay, has_momentum, nesterov = hyper
    offsets = tl.arange(0, SIZE)
    mask = offsets < n
    buffer_mask = offsets < n * has_momentum.to(n.dtype)
    param = tl.load(param_ptr + offsets, mask, other=0.0).to(OPMATH)
    grad = tl.load(grad_ptr + offsets, mask, other=0.0).to(OPMATH)
    buffer = tl.load(buffer_ptr + offsets, buffer_mask, other=0.0).to(OPMATH)

    if inv_scale is not None:
        grad = grad * inv_scale
        if WRITE_GRADS:
            tl.store(grad_ptr + offsets, narrowed(grad, grad_ptr.dtype.element_ty), mask)
    d = grad * sign
    d = tl.where(has_decay, tl.fma(weight_decay, param, d), d)
    if layer_rate is not None:
        d = d * layer_rate
    buffer = tl.fma(grad_weight, d, momentum * buffer)
    ahead = tl.fma(momentum, buffer, d)
    d = tl.where(has_momentum, tl.where(nesterov, ahead, buffer), d)
    param = tl.fma(neg_lr, d, param)

    stored = narrowed(param, param_ptr.dtype.element_ty)
    tl.store(param_ptr + offsets, stored, mask)
    tl.store(buffer_ptr + offsets, narrowed(buffer, buffer_ptr.dtype.element_ty), buffer_mask)
    if extras is not None:
        seen = stored.to(OPMATH)
        update_extras(extras, param, seen, start, offsets, n, OPMATH, VECTOR)


@triton.jit
def update_span(
    entry,
    begin,
    end,
    group,
    lr,
    momentum,
    ema_factor,
    extras_at,
    t,
    grad_scale,
    squares_at,
    PARAM_TYPE: tl.constexpr,
    GRAD_TYPE: tl.constexpr,
    SCALED: tl.constexpr,
    WRITE_GRADS: tl.constexpr,
    LARS: tl.constexpr,
    EXTRAS: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
    TAIL: tl.constexpr,
):
    """Update elements ``[begin, end)`` of one tensor; ``begin`` is a multiple of UNIT."""
    OPMATH: tl.constexpr = tl.float64 if PARAM_TYPE.primitive_bitwidth == 64 else tl.float32
    weight_decay = load_double(group + WEIGHT_DECAY)
    dampening = load_double(group + DAMPENING)
    has_momentum = momentum != 0.0

    first_step = False
    mark_at = load_int64(entry + FIRST_STEP)
    if has_momentum & (mark_at != 0):
        mark_ptr = mark_at.to(tl.pointer_type(tl.int64))
        mark = tl.load(mark_ptr)
        first_step = (mark == FIRST_STEP_NEVER) | (mark == t)
        if first_step:
            tl.store(mark_ptr, t)  # others see this t or NEVER: the same answer
    layer_rate = None
    if LARS:
        layer_rate, lr = layer_rate_of(entry, group, lr, squares_at, OPMATH)
    hyper = (
        (-lr).to(OPMATH),
        weight_decay.to(OPMATH),
        momentum.to(OPMATH),
        tl.where(first_step, 1.0, 1.0 - dampening).to(OPMATH),
        tl.where(load_int32(group + MAXIMIZE) != 0, -1.0, 1.0).to(OPMATH),
        weight_decay != 0.0,
        has_momentum,
        load_int32(group + NESTEROV) != 0,
    )
    inv_scale = None
    if SCALED:
        scale = tl.load(grad_scale.to(tl.pointer_type(tl.float32)))
        inv_scale = (1.0 / scale.to(tl.float64)).to(tl.float32).to(OPMATH)

    extras = None
    if EXTRAS:
        extras = extras_of(extras_at, group, ema_factor, t, OPMATH)

    param_at = load_int64(entry + PARAM)
    grad_at = load_int64(entry + GRAD)
    buffer_at = load_int64(entry + MOMENTUM_BUFFER)
    param_ptr = param_at.to(tl.pointer_type(PARAM_TYPE))
    grad_ptr = grad_at.to(tl.pointer_type(GRAD_TYPE))
    buffer_ptr = buffer_at.to(tl.pointer_type(PARAM_TYPE))

    # What allows wide accesses. The compiler uses them because it sees multiples of 16 as counts
    # and as the pointers' alignment. VECTOR elements an access for all: tensors of a wider and
    # a narrower type would get layouts of their own else, and travel through shared memory.
    unit = (begin // UNIT).to(tl.int32)
    addresses = param_at | grad_at | buffer_at
    if EXTRAS:
        addresses |= load_int64(extras_at + EMA) | load_int64(extras_at + ROUNDED)
    aligned = addresses % ALIGNMENT == 0
    last_unit = tl.where(aligned, (end // UNIT).to(tl.int32), unit)
    while unit < last_unit:
        at = unit.to(tl.int64) * UNIT
        update_elements(
            tl.multiple_of(param_ptr, VECTOR * PARAM_TYPE.primitive_bitwidth // 8) + at,
            tl.multiple_of(grad_ptr, VECTOR * GRAD_TYPE.primitive_bitwidth // 8) + at,
            tl.multiple_of(buffer_ptr, VECTOR * PARAM_TYPE.primitive_bitwidth // 8) + at,
            tl.minimum(last_unit - unit, BLOCK // UNIT) * UNIT,
            hyper,
            inv_scale,
            layer_rate,
            extras,
            at,
            OPMATH,
            WRITE_GRADS,
            VECTOR,
            BLOCK,
        )
        unit += BLOCK // UNIT
    # The rest of a tensor, or all of one at an odd address.
    start = last_unit.to(tl.int64) * UNIT
    while start < end:
        update_elements(
            param_ptr + start,
            grad_ptr + start,
            buffer_ptr + start,
            end - start,
            hyper,
            inv_scale,
            layer_rate,
            extras,
            start,
            OPMATH,
            WRITE_GRADS,
            1,
            TAIL,
        )
        start += TAIL
