"""The device code of the Triton backend: every tensor of a device in one launch.

It restates ``csrc/math/sgd.h`` (one element); tests pin it to the reference. The tables are those
of ``csrc/launch/tables.h``, at the offsets that the extension tells. Every fused multiply-add is
written out, and launches turn the compiler's own contraction off.
"""

import triton
import triton.language as tl

from fused_warmup import _C

from .extras import EMA, EXTRAS_SIZE, ROUNDED, extras_of, narrowed, update_extras
from .lars import layer_rate_of
from .line import SHARE_ENTRY, SHARE_SIZE, share_end, span_of
from .rates import rates_at
from .schedule import load_double, load_int32, load_int64, next_count, places

# Of the structs in csrc, in bytes.
ENTRY_SIZE, PARAM, GRAD, MOMENTUM_BUFFER, FIRST_STEP = map(
    tl.constexpr, places("TensorEntry", "size", "param", "grad", "momentum_buffer", "first_step")
)
PARAM_DTYPE, GRAD_DTYPE, GROUP = map(
    tl.constexpr, places("TensorEntry", "param_dtype", "grad_dtype", "group")
)
GROUP_SIZE, WEIGHT_DECAY, DAMPENING, NESTEROV, MAXIMIZE = map(
    tl.constexpr, places("Group", "size", "weight_decay", "dampening", "nesterov", "maximize")
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


# The arguments that are no constants, numbers all of them.
NUMBERS = (
    *("tables", "extras_at", "groups_at", "line_at", "shares_at", "schedules_at", "n_groups"),
    *("tickets", "t_at", "lr_at", "found_inf", "grad_scale", "advance", "squares_at"),
)


@triton.jit(do_not_specialize=NUMBERS)
def sgd_step(
    tables: tl.int64,
    extras_at: tl.int32,
    groups_at: tl.int32,
    line_at: tl.int32,
    shares_at: tl.int32,
    schedules_at: tl.int32,
    n_groups: tl.int32,
    tickets: tl.int64,
    t_at: tl.int64,
    lr_at: tl.int64,
    found_inf: tl.int64,
    grad_scale: tl.int64,
    advance: tl.int32,
    squares_at: tl.int64,
    DTYPES: tl.constexpr,
    SCALED: tl.constexpr,
    WRITE_GRADS: tl.constexpr,
    LARS: tl.constexpr,
    EXTRAS: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
    TAIL: tl.constexpr,
):
    """One step of every tensor on the device, and one tick of its counter.

    A program writes the rates of some groups to ``lr_at``, then updates its share of the elements.
    It works a rate out again only for another group.

    Args:
        tables: Address of the tables, which begin with that of the tensors.
        extras_at: Where in them, in bytes, averages and rounded copies are told of, a row a tensor.
        groups_at: Likewise, the groups.
        line_at: Likewise, where each tensor begins in the line of all elements.
        shares_at: Each program's share of that line.
        schedules_at: The schedules.
        n_groups: Number of groups.
        tickets: An int32, 0 between launches: programs that are done.
        t_at: An int64, the steps applied so far.
        lr_at: Out: each group's rate, float64.
        found_inf: 0, or the address of a float32: where it is not 0, nothing happens.
        grad_scale: 0, or the address of a float32: what gradients were multiplied by.
        advance: Whether ``t`` moves on.
        squares_at: Of LARS: where `sum_squares` has left its sums.
        DTYPES: The pairs of parameter's and gradient's dtype that occur: the codes that their
            entries hold, then the types.
        SCALED: Whether there is a ``grad_scale``.
        WRITE_GRADS: Whether unscaled gradients are stored.
        LARS: Whether each tensor has a rate of its own.
        EXTRAS: Whether any tensor has an average or a master.
        VECTOR: Elements of a wide access: of 16 bytes for the widest dtype.
        BLOCK: Elements handled at once, a power of 2.
        TAIL: Elements handled at once where wide accesses are not possible, a power of 2.
    """
    found_ptr = found_inf.to(tl.int64).to(tl.pointer_type(tl.float32))
    if tl.load(found_ptr, found_inf != 0, other=0.0) != 0.0:
        return
    t_ptr = t_at.to(tl.pointer_type(tl.int64))
    t = tl.load(t_ptr)
    lr_group = tl.full((), -1, tl.int32)
    lr = tl.full((), 0.0, tl.float64)
    momentum = tl.full((), 0.0, tl.float64)
    ema_factor = tl.full((), 1.0, tl.float64)

    # What the loop needs is read again each time, for registers decide how many programs a device
    # holds at a time.
    share = tables + shares_at + tl.program_id(0).to(tl.int64) * SHARE_SIZE
    i = load_int32(share + SHARE_ENTRY)
    unwritten = tl.program_id(0)  # the next group whose rate this program writes
    line = tables + line_at
    while (unwritten < n_groups) | (load_int64(line + i.to(tl.int64) * 8) < share_end(share)):
        entry = tables + i.to(tl.int64) * ENTRY_SIZE
        group = unwritten
        if unwritten >= n_groups:
            group = load_int32(entry + GROUP)
        row = tables + groups_at + group.to(tl.int64) * GROUP_SIZE
        if group != lr_group:
            lr_group = group
            lr, momentum, ema_factor = rates_at(row, tables + schedules_at, t, 3 if EXTRAS else 2)
        if unwritten < n_groups:
            tl.store((lr_at + group.to(tl.int64) * 8).to(tl.pointer_type(tl.float64)), lr)
            unwritten += tl.num_programs(0)
        else:
            begin, end = span_of(entry, line + i.to(tl.int64) * 8, share)
            pair = tl.full((), 0, tl.int32)
            for k in tl.static_range(1, len(DTYPES)):
                own = load_int32(entry + PARAM_DTYPE) == DTYPES[k][0]
                grad = load_int32(entry + GRAD_DTYPE) == DTYPES[k][1]
                pair = tl.where(own & grad, k, pair)
            for k in tl.static_range(len(DTYPES)):
                if pair == k:
                    update_span(
                        entry,
                        begin,
                        end,
                        row,
                        lr,
                        momentum,
                        ema_factor,
                        tables + extras_at + i.to(tl.int64) * EXTRAS_SIZE,
                        t,
                        grad_scale,
                        squares_at,
                        DTYPES[k][2],
                        DTYPES[k][3],
                        SCALED,
                        WRITE_GRADS,
                        LARS,
                        EXTRAS,
                        VECTOR,
                        BLOCK,
                        TAIL,
                    )
            i += 1
    if advance != 0:
        tl.debug_barrier()  # all of this program has read t before its ticket says so
        tickets_ptr = tickets.to(tl.pointer_type(tl.int32))
        if tl.atomic_add(tickets_ptr, 1) == tl.num_programs(0) - 1:
            tl.store(tickets_ptr, 0)
            tl.store(t_ptr, next_count(t))
