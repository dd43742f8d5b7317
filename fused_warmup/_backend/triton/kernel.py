"""The device code of the Triton backend: every tensor of a device in one launch.

It restates ``csrc/math/sgd.h`` (one element) and ``csrc/launch/line.h`` (a program's share of the
work); tests pin it to the reference. The tables are those of ``csrc/launch/tables.h``, at the
offsets that the extension tells. Every fused multiply-add is written out, and launches turn the
compiler's own contraction off.
"""

import triton
import triton.language as tl

from fused_warmup import _C

from .lars import layer_rate_of
from .schedule import load_double, load_int64, next_count, places, track_factor

# Of the structs in csrc, in bytes.
ENTRY_SIZE, PARAM, GRAD, MOMENTUM_BUFFER, FIRST_STEP, N_ELEMENTS = map(
    tl.constexpr,
    places(
        "TensorEntry",
        *("size", "param", "grad", "momentum_buffer", "first_step", "n_elements"),
    ),
)
PARAM_DTYPE, GRAD_DTYPE, GROUP = map(
    tl.constexpr, places("TensorEntry", "param_dtype", "grad_dtype", "group")
)
GROUP_SIZE, LR, LR_PTR, LR_DTYPE, SCHEDULE, MOMENTUM_SCHEDULE = map(
    tl.constexpr,
    places("Group", "size", "lr", "lr_ptr", "lr_dtype", "schedule", "momentum_schedule"),
)
WEIGHT_DECAY, MOMENTUM, DAMPENING, NESTEROV, MAXIMIZE = map(
    tl.constexpr,
    places("Group", "weight_decay", "momentum", "dampening", "nesterov", "maximize"),
)
EXTRAS_SIZE, EMA, ROUNDED, ROUNDED_DTYPE = map(
    tl.constexpr, places("Extras", "size", "ema", "rounded", "rounded_dtype")
)
EMA_DECAY, EMA_EVERY, EMA_START = map(
    tl.constexpr, places("Group", "ema_decay", "ema_every", "ema_start")
)
SHARE_SIZE, SHARE_BEGIN, SHARE_ENTRY = map(tl.constexpr, places("Share", "size", "begin", "entry"))
SCHEDULE_SIZE = tl.constexpr(_C.TABLES["Schedule"]["size"])
FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = map(
    tl.constexpr, places("DType", "FLOAT32", "FLOAT64", "BFLOAT16", "FLOAT16")
)
FIRST_STEP_NEVER = tl.constexpr(_C.TABLES["constants"]["FIRST_STEP_NEVER"])

UNIT = tl.constexpr(16)  # elements that allow wide accesses: a divisor of line.h's multiples
ALIGNMENT = tl.constexpr(16)  # bytes of the widest access


@triton.jit
def load_int32(at):
    """Return the int32 that lies at an address."""
    return tl.load(at.to(tl.pointer_type(tl.int32)))


@triton.jit
def base_lr(group):
    """Return a group's base rate, as float64: a number, or what a tensor holds now.

    Loads under masks rather than branches, which would take more registers.
    """
    at, dtype = load_int64(group + LR_PTR), load_int32(group + LR_DTYPE)
    there = at != 0
    double = tl.load(at.to(tl.pointer_type(tl.float64)), there & (dtype == FLOAT64), other=0.0)
    single = tl.load(at.to(tl.pointer_type(tl.float32)), there & (dtype == FLOAT32), other=0.0)
    bfloat = tl.load(at.to(tl.pointer_type(tl.bfloat16)), there & (dtype == BFLOAT16), other=0.0)
    half = tl.load(at.to(tl.pointer_type(tl.float16)), there & (dtype == FLOAT16), other=0.0)
    narrow = single + bfloat.to(tl.float32) + half.to(tl.float32)
    return load_double(group + LR) + double + narrow.to(tl.float64)


@triton.jit
def rates_at(group, schedules, t, TRACKS: tl.constexpr):
    """Return a group's learning rate and momentum at step ``t``, in float64.

    The third is the factor on the decay of its averages, if there are so many TRACKS.
    """
    lr = base_lr(group)
    momentum = load_double(group + MOMENTUM)
    ema_factor = tl.full((), 1.0, tl.float64)
    # A loop over the tracks: stating the schedule's code twice would take more registers. Their
    # indices lie side by side.
    track = tl.full((), 0, tl.int32)
    factor = tl.full((), 1.0, tl.float64)
    following = tl.full((), 0, tl.int64)
    while track < TRACKS:
        at = group + SCHEDULE + track * (MOMENTUM_SCHEDULE - SCHEDULE)
        index = load_int32(at)
        schedule = schedules + index.to(tl.int64) * SCHEDULE_SIZE
        more, following = track_factor(schedule, index >= 0, following, t)
        # 0 times one that overflowed would be NaN.
        factor = tl.where((factor == 0.0) | (more == 0.0), 0.0, factor * more)
        if following == 0:
            lr *= tl.where(track == 0, factor, 1.0)
            # Without momentum there may be no buffer, and 0 times an infinite factor is not 0.
            momentum *= tl.where((track == 1) & (momentum != 0.0), factor, 1.0)
            if TRACKS == 3:
                ema_factor *= tl.where(track == 2, factor, 1.0)
            factor = tl.full((), 1.0, tl.float64)
            track += 1
    return lr, momentum, ema_factor


@triton.jit
def ema_weight(group, factor, t):
    """Return the weight of a parameter in its average after step ``t``; 0: the average stays."""
    start = load_int64(group + EMA_START)
    every = load_int64(group + EMA_EVERY)
    past = t % every
    is_copy = (start >= 0) & (t - start < tl.where(past == 0, every, past))
    weight = tl.where(past == 0, 1.0 - load_double(group + EMA_DECAY) * factor, 0.0)
    return tl.where(is_copy, 1.0, weight)


@triton.jit
def extras_of(entry, group, ema_factor, t, OPMATH: tl.constexpr):
    """Return where a tensor's average and rounded copy are, and the former's weight."""
    weight = ema_weight(group, ema_factor, t)
    ema_at = load_int64(entry + EMA)
    narrow = weight.to(OPMATH)
    from_end = tl.abs(narrow) >= 0.5
    coefficient = tl.where(from_end, narrow - 1.0, narrow)
    rounded_at, rounded_dtype = load_int64(entry + ROUNDED), load_int32(entry + ROUNDED_DTYPE)
    averages = (ema_at != 0) & (weight != 0.0)
    is_bfloat = (rounded_at != 0) & (rounded_dtype == BFLOAT16)
    is_half = (rounded_at != 0) & (rounded_dtype == FLOAT16)
    return ema_at, rounded_at, averages, coefficient, from_end, is_bfloat, is_half


@triton.jit
def update_extras(
    extras, param, seen, start, offsets, n, OPMATH: tl.constexpr, VECTOR: tl.constexpr
):
    """Round a master into its parameter, and let what a model sees into its average."""
    # As masks, numbers of elements: Triton 3.9's interpreter takes no switch for one.
    ema_at, rounded_at, averages, coefficient, from_end, is_bfloat, is_half = extras
    bfloat_ptr = tl.multiple_of(rounded_at.to(tl.pointer_type(tl.bfloat16)), VECTOR * 2)
    bfloat_ptr = bfloat_ptr + start + offsets
    tl.store(bfloat_ptr, narrowed(param, tl.bfloat16), offsets < n * is_bfloat.to(n.dtype))
    half_ptr = tl.multiple_of(rounded_at.to(tl.pointer_type(tl.float16)), VECTOR * 2)
    half_mask = offsets < n * is_half.to(n.dtype)
    tl.store(half_ptr + start + offsets, narrowed(param, tl.float16), half_mask)
    ema_ptr = tl.multiple_of(
        ema_at.to(tl.pointer_type(OPMATH)), VECTOR * OPMATH.primitive_bitwidth // 8
    )
    ema_ptr = ema_ptr + start + offsets
    ema_mask = offsets < n * averages.to(n.dtype)
    ema = tl.load(ema_ptr, ema_mask, other=0.0)
    ema = tl.fma(coefficient, seen - ema, tl.where(from_end, seen, ema))
    tl.store(ema_ptr, ema, ema_mask)


@triton.jit
def narrowed(x, DTYPE: tl.constexpr):
    """Return ``x`` in the storage type: by way of float32, as torch and the C++ kernels do."""
    if DTYPE.primitive_bitwidth == 16:
        x = x.to(tl.float32)
    return x.to(DTYPE)


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


@triton.jit
def cut_at(position, origin, n_elements):
    """Return a position of the line as an index into the tensor that begins at ``origin``."""
    return tl.minimum(tl.maximum(position - origin, 0), n_elements)


@triton.jit
def share_end(share):
    """Return where a share ends: the next one begins there."""
    return load_int64(share + SHARE_SIZE + SHARE_BEGIN)


@triton.jit
def span_of(entry, line, share):
    """Return which elements ``[begin, end)`` of a tensor, at ``line``, belong to a share."""
    origin, following = load_int64(line), load_int64(line + 8)
    n_elements = load_int64(entry + N_ELEMENTS)
    begin = cut_at(load_int64(share + SHARE_BEGIN), origin, n_elements)
    cut = cut_at(share_end(share), origin, n_elements)
    return begin, tl.where(share_end(share) >= following, n_elements, cut)


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
