"""The device code of the Triton backend: every tensor of a device in one launch.

It restates ``csrc/math/sgd.h`` (one element) and ``csrc/launch/plan.h`` (what a launch reads);
tests pin it to the reference. Every fused multiply-add is written out, and launches turn the
compiler's own contraction off.

`tables.py` fills the tables. A word is 8 bytes; float64 are held by their bits.
"""

import triton
import triton.language as tl

from .schedule import load_double, next_count, schedule_factor

# A tensor's row: addresses (0 for a missing one), elements, how many units of 16 of them allow wide
# accesses, the index into DTYPES below.
TENSOR_WORDS = tl.constexpr(8)
PARAM_AT, GRAD_AT, BUFFER_AT, MARK_AT, N_ELEMENTS, N_UNITS, GROUP, PAIR = map(
    tl.constexpr, range(8)
)
# A group's row: the base rate, or the address of a tensor that holds it and the place of its dtype
# among the following four; the places of the segments of the rate's schedule and of the momentum's;
# the options.
GROUP_WORDS = tl.constexpr(12)
LR, LR_AT, LR_DTYPE, LR_SCHEDULE, MOMENTUM_SCHEDULE = map(tl.constexpr, (0, 1, 2, 3, 5))
FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = map(tl.constexpr, range(4))
WEIGHT_DECAY, MOMENTUM, DAMPENING, NESTEROV, MAXIMIZE = map(tl.constexpr, range(7, 12))

UNIT = tl.constexpr(16)
FIRST_STEP_NEVER = tl.constexpr(-1)


@triton.jit
def load_rate(at, dtype):
    """Return, as float64, the number at an address; 0 where there is none.

    Loads under masks rather than branches, which would take more registers.
    """
    there = at != 0
    double = tl.load(at.to(tl.pointer_type(tl.float64)), there & (dtype == FLOAT64), other=0.0)
    single = tl.load(at.to(tl.pointer_type(tl.float32)), there & (dtype == FLOAT32), other=0.0)
    bfloat = tl.load(at.to(tl.pointer_type(tl.bfloat16)), there & (dtype == BFLOAT16), other=0.0)
    half = tl.load(at.to(tl.pointer_type(tl.float16)), there & (dtype == FLOAT16), other=0.0)
    narrow = single + bfloat.to(tl.float32) + half.to(tl.float32)
    return double + narrow.to(tl.float64)


@triton.jit
def rates_at(group, schedules, t):
    """Return a group's learning rate and momentum at step ``t``, in float64."""
    lr = load_double(group + LR) + load_rate(tl.load(group + LR_AT), tl.load(group + LR_DTYPE))
    momentum = load_double(group + MOMENTUM)
    # A loop over the two tracks: stating the schedule's code twice would take more registers.
    track = tl.full((), 0, tl.int64)
    while track < 2:
        place = group + LR_SCHEDULE + track * (MOMENTUM_SCHEDULE - LR_SCHEDULE)
        segments = schedules + tl.load(place)
        factor = schedule_factor(segments, tl.load(place + 1), schedules, t)
        lr *= tl.where(track == 0, factor, 1.0)
        # Without momentum there may be no buffer, and 0 times an infinite factor is not 0.
        momentum *= tl.where((track == 1) & (momentum != 0.0), factor, 1.0)
        track += 1
    return lr, momentum


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
    OPMATH: tl.constexpr,
    WRITE_GRADS: tl.constexpr,
    SIZE: tl.constexpr,
):
    """Update the first ``n`` elements, at most SIZE of them."""
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
    buffer = tl.fma(grad_weight, d, momentum * buffer)
    ahead = tl.fma(momentum, buffer, d)
    d = tl.where(has_momentum, tl.where(nesterov, ahead, buffer), d)
    param = tl.fma(neg_lr, d, param)

    tl.store(param_ptr + offsets, narrowed(param, param_ptr.dtype.element_ty), mask)
    tl.store(buffer_ptr + offsets, narrowed(buffer, buffer_ptr.dtype.element_ty), buffer_mask)


@triton.jit
def update_chunk(
    tensor,
    chunk,
    group,
    lr,
    momentum,
    t,
    grad_scale,
    PARAM: tl.constexpr,
    GRAD: tl.constexpr,
    WRITE_GRADS: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
    TAIL: tl.constexpr,
):
    """Update elements ``[chunk * BLOCK, (chunk + 1) * BLOCK)`` of one tensor."""
    OPMATH: tl.constexpr = tl.float64 if PARAM.primitive_bitwidth == 64 else tl.float32
    weight_decay = load_double(group + WEIGHT_DECAY)
    dampening = load_double(group + DAMPENING)
    has_momentum = momentum != 0.0

    first_step = False
    mark_at = tl.load(tensor + MARK_AT)
    if has_momentum & (mark_at != 0):
        mark_ptr = mark_at.to(tl.pointer_type(tl.int64))
        mark = tl.load(mark_ptr)
        first_step = (mark == FIRST_STEP_NEVER) | (mark == t)
        if first_step & (chunk == 0):
            tl.store(mark_ptr, t)  # others see this t or NEVER: the same answer
    hyper = (
        (-lr).to(OPMATH),
        weight_decay.to(OPMATH),
        momentum.to(OPMATH),
        tl.where(first_step, 1.0, 1.0 - dampening).to(OPMATH),
        tl.where(tl.load(group + MAXIMIZE) != 0, -1.0, 1.0).to(OPMATH),
        weight_decay != 0.0,
        has_momentum,
        tl.load(group + NESTEROV) != 0,
    )
    inv_scale = None
    if grad_scale is not None:
        inv_scale = (1.0 / tl.load(grad_scale).to(tl.float64)).to(tl.float32).to(OPMATH)

    param_ptr = tl.load(tensor + PARAM_AT).to(tl.pointer_type(PARAM))
    grad_ptr = tl.load(tensor + GRAD_AT).to(tl.pointer_type(GRAD))
    buffer_ptr = tl.load(tensor + BUFFER_AT).to(tl.pointer_type(PARAM))
    begin = chunk * BLOCK
    n_elements = tl.load(tensor + N_ELEMENTS)
    units = tl.load(tensor + N_UNITS)

    # What allows wide accesses. The compiler uses them because it sees a multiple of 16 as the
    # count and the pointers' alignment. VECTOR elements an access for all: tensors of a wider and
    # a narrower type would get layouts of their own else, and travel through shared memory.
    left = tl.minimum(tl.maximum(units - chunk * (BLOCK // UNIT), 0), BLOCK // UNIT).to(tl.int32)
    if left > 0:
        update_elements(
            tl.multiple_of(param_ptr, VECTOR * PARAM.primitive_bitwidth // 8) + begin,
            tl.multiple_of(grad_ptr, VECTOR * GRAD.primitive_bitwidth // 8) + begin,
            tl.multiple_of(buffer_ptr, VECTOR * PARAM.primitive_bitwidth // 8) + begin,
            left * UNIT,
            hyper,
            inv_scale,
            OPMATH,
            WRITE_GRADS,
            BLOCK,
        )
    # The rest of a tensor, or all of one at an odd address.
    start = tl.maximum(begin, units * UNIT)
    stop = tl.minimum(begin + BLOCK, n_elements)
    while start < stop:
        update_elements(
            param_ptr + start,
            grad_ptr + start,
            buffer_ptr + start,
            stop - start,
            hyper,
            inv_scale,
            OPMATH,
            WRITE_GRADS,
            TAIL,
        )
        start += TAIL


SCALARS = ("n_chunks", "n_groups", "advance")


@triton.jit(
    do_not_specialize=SCALARS,
    do_not_specialize_on_alignment=("found_inf", "grad_scale", "t_ptr", "lr_ptr"),
)
def sgd_step(
    chunks,
    tensors,
    groups,
    schedules,
    t_ptr,
    lr_ptr,
    tickets,
    found_inf,
    grad_scale,
    n_chunks,
    n_groups,
    advance,
    DTYPES: tl.constexpr,
    WRITE_GRADS: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
    TAIL: tl.constexpr,
):
    """One step of every tensor on the device, and one tick of its counter.

    The work is a list of items: each group's rate, which is written to ``lr_ptr``, then each chunk
    of each tensor. Programs take items in turn, and work a rate out again only for another group.

    Args:
        chunks: A word a chunk: its tensor's row in the upper half, its number in the lower.
        tensors: The rows of the tensors.
        groups: The rows of the groups.
        schedules: All segments, then the values of their tables.
        t_ptr: Steps applied so far.
        lr_ptr: Out: each group's rate, float64.
        tickets: int32, 0 between launches: programs that are done.
        found_inf: None, or a float32: where it is not 0, nothing happens.
        grad_scale: None, or a float32: what gradients were multiplied by.
        n_chunks: Number of chunks.
        n_groups: Number of groups.
        advance: Whether ``t`` moves on.
        DTYPES: The pairs of parameter's and gradient's dtype that occur.
        WRITE_GRADS: Whether unscaled gradients are stored.
        VECTOR: Elements of a wide access: of 16 bytes for the widest dtype.
        BLOCK: Elements of a chunk, a power of 2.
        TAIL: Elements handled at once where wide accesses are not possible, a power of 2.
    """
    if found_inf is not None:  # noqa: SIM102 (the compiler knows this one already)
        if tl.load(found_inf) != 0.0:
            return
    t = tl.load(t_ptr)
    lr_group = tl.full((), -1, tl.int64)
    lr = tl.full((), 0.0, tl.float64)
    momentum = tl.full((), 0.0, tl.float64)
    item = tl.program_id(0)
    while item < n_groups + n_chunks:
        word = tl.full((), 0, tl.int64)
        group = item.to(tl.int64)
        if item >= n_groups:
            word = tl.load(chunks + (item - n_groups))
            group = tl.load(tensors + (word >> 32) * TENSOR_WORDS + GROUP)
        if group != lr_group:
            lr_group = group
            lr, momentum = rates_at(groups + group * GROUP_WORDS, schedules, t)
        if item < n_groups:
            tl.store(lr_ptr + group, lr)
        else:
            tensor = tensors + (word >> 32) * TENSOR_WORDS
            pair = tl.load(tensor + PAIR)
            for i in tl.static_range(len(DTYPES)):
                if pair == i:
                    update_chunk(
                        tensor,
                        word & 0xFFFFFFFF,
                        groups + group * GROUP_WORDS,
                        lr,
                        momentum,
                        t,
                        grad_scale,
                        DTYPES[i][0],
                        DTYPES[i][1],
                        WRITE_GRADS,
                        VECTOR,
                        BLOCK,
                        TAIL,
                    )
        item += tl.num_programs(0)
    if advance != 0:
        tl.debug_barrier()  # all of this program has read t before its ticket says so
        if tl.atomic_add(tickets, 1) == tl.num_programs(0) - 1:
            tl.store(tickets, 0)
            tl.store(t_ptr, next_count(t))
