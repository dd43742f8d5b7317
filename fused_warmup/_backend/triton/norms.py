"""LARS's norms on the device, the first of a step's two launches.

It restates ``csrc/launch/norms.h``: which program adds up which chunk, and where the sums go. Every
sum is in the order of ``csrc/math/lars.h``.
"""

import triton
import triton.language as tl

from fused_warmup import _C

from .kernel import ENTRY_SIZE, GRAD_DTYPE, PARAM_DTYPE
from .lars import ROW
from .line import N_ELEMENTS, SHARE_BEGIN, SHARE_ENTRY, SHARE_SIZE, share_end
from .schedule import load_int32, load_int64
from .update import GRAD, PARAM

LANES, MIN_CHUNK, MAX_CHUNKS = (
    tl.constexpr(_C.TABLES["constants"][name]) for name in ("SUM_LANES", "MIN_CHUNK", "MAX_CHUNKS")
)


@triton.jit
def square(ptr, at, end, inv_scale, OPMATH: tl.constexpr):
    """Return the squares of the elements from ``at`` on, one a lane, as float64."""
    offsets = at + tl.arange(0, LANES)
    values = tl.load(ptr + offsets, offsets < end, other=0.0).to(OPMATH)
    if inv_scale is not None:
        values = values * inv_scale
    wide = values.to(tl.float64)
    return wide * wide


@triton.jit
def sum_lanes(lanes):
    """Add the upper half of the lanes to the lower until one is left, and return that."""
    for _ in tl.static_range(7):
        # A sum of two is one addition.
        lanes = tl.sum(tl.reshape(lanes, (2, lanes.shape[0] // 2)), axis=0)
    return tl.sum(lanes, axis=0)


@triton.jit
def sum_chunk(ptr, begin, end, inv_scale, OPMATH: tl.constexpr):
    """Return the sum of the squares of elements ``[begin, end)``."""
    lanes = tl.zeros((LANES,), tl.float64)
    at = begin
    while at < end:  # four loads in flight
        first = square(ptr, at, end, inv_scale, OPMATH)
        second = square(ptr, at + LANES, end, inv_scale, OPMATH)
        third = square(ptr, at + 2 * LANES, end, inv_scale, OPMATH)
        fourth = square(ptr, at + 3 * LANES, end, inv_scale, OPMATH)
        lanes = (((lanes + first) + second) + third) + fourth
        at += 4 * LANES
    return sum_lanes(lanes)


@triton.jit
def sum_partials(ptr, count):
    """Return the sum of what chunks left at every other double, read past the caches of others."""
    lanes = tl.zeros((LANES,), tl.float64)
    at = tl.full((), 0, tl.int64)
    while at < count:
        offsets = at + tl.arange(0, LANES)
        lanes += tl.load(ptr + 2 * offsets, offsets < count, other=0.0, cache_modifier=".cg")
        at += LANES
    return sum_lanes(lanes)


@triton.jit
def chunk_size(n_elements):
    """Return how many elements a chunk has."""
    size = tl.full((), MIN_CHUNK, tl.int64)
    while n_elements > size * MAX_CHUNKS:
        size *= 2
    return size


@triton.jit
def chunks_before(position, origin, size, count):
    """Return how many chunks of the tensor that begins at ``origin`` begin before a position."""
    inside = tl.maximum(position - origin, 0)
    return tl.minimum((inside + size - 1) // size, count)


@triton.jit
def add_chunk(
    entry,
    begin,
    end,
    sums_at,
    grad_scale,
    PARAM_TYPE: tl.constexpr,
    GRAD_TYPE: tl.constexpr,
    SCALED: tl.constexpr,
):
    """Leave the sums of a chunk of a tensor and of its unscaled gradient at an address."""
    OPMATH: tl.constexpr = tl.float64 if PARAM_TYPE.primitive_bitwidth == 64 else tl.float32
    inv_scale = None
    if SCALED:
        scale = tl.load(grad_scale.to(tl.pointer_type(tl.float32)))
        inv_scale = (1.0 / scale.to(tl.float64)).to(tl.float32).to(OPMATH)
    param_ptr = load_int64(entry + PARAM).to(tl.pointer_type(PARAM_TYPE))
    grad_ptr = load_int64(entry + GRAD).to(tl.pointer_type(GRAD_TYPE))
    sums_ptr = sums_at.to(tl.pointer_type(tl.float64))
    tl.store(sums_ptr, sum_chunk(param_ptr, begin, end, None, OPMATH))
    tl.store(sums_ptr + 1, sum_chunk(grad_ptr, begin, end, inv_scale, OPMATH))


NUMBERS = (
    *("tables", "line_at", "shares_at", "found_inf", "grad_scale"),
    *("squares_at", "partials_at", "tickets_at"),
)


@triton.jit(do_not_specialize=NUMBERS)
def sum_squares(
    tables: tl.int64,
    line_at: tl.int32,
    shares_at: tl.int32,
    found_inf: tl.int64,
    grad_scale: tl.int64,
    squares_at: tl.int64,
    partials_at: tl.int64,
    tickets_at: tl.int64,
    DTYPES: tl.constexpr,
    SCALED: tl.constexpr,
):
    """Sum the squares of every tensor and gradient on the device.

    The program that is through with a tensor's last chunk, as its ticket tells, adds up the chunks.

    Args:
        tables: Address of the tables, which begin with that of the tensors.
        line_at: Where in them, in bytes, the line of all elements lies.
        shares_at: Likewise, each program's share of that line.
        found_inf: 0, or the address of a float32: where it is not 0, nothing happens.
        grad_scale: 0, or the address of a float32: what gradients were multiplied by.
        squares_at: Out: two float64 a row.
        partials_at: Room for two float64 a chunk.
        tickets_at: An int32 a row, 0 between launches.
        DTYPES: As in `sgd_step`.
        SCALED: Whether there is a ``grad_scale``.
    """
    found_ptr = found_inf.to(tl.int64).to(tl.pointer_type(tl.float32))
    if tl.load(found_ptr, found_inf != 0, other=0.0) != 0.0:
        return
    share = tables + shares_at + tl.program_id(0).to(tl.int64) * SHARE_SIZE
    i = load_int32(share + SHARE_ENTRY).to(tl.int64)
    line = tables + line_at
    while load_int64(line + i * 8) < share_end(share):
        entry = tables + i * ENTRY_SIZE
        origin, n_elements = load_int64(line + i * 8), load_int64(entry + N_ELEMENTS)
        size = chunk_size(n_elements)
        count = (n_elements + size - 1) // size
        partials = partials_at + (origin // MIN_CHUNK + i) * 16
        k = chunks_before(load_int64(share + SHARE_BEGIN), origin, size, count)
        last = chunks_before(share_end(share), origin, size, count)
        pair = tl.full((), 0, tl.int32)
        for j in tl.static_range(1, len(DTYPES)):
            own = load_int32(entry + PARAM_DTYPE) == DTYPES[j][0]
            grad = load_int32(entry + GRAD_DTYPE) == DTYPES[j][1]
            pair = tl.where(own & grad, j, pair)
        while k < last:
            end = tl.minimum((k + 1) * size, n_elements)
            for j in tl.static_range(len(DTYPES)):
                if pair == j:
                    add_chunk(
                        entry,
                        k * size,
                        end,
                        partials + k * 16,
                        grad_scale,
                        DTYPES[j][2],
                        DTYPES[j][3],
                        SCALED,
                    )
            row = load_int32(entry + ROW).to(tl.int64)
            tl.debug_barrier()  # the sums are there before the ticket says so
            ticket_ptr = (tickets_at + row * 4).to(tl.pointer_type(tl.int32))
            if tl.atomic_add(ticket_ptr, 1) == count - 1:
                tl.store(ticket_ptr, 0)
                sums_ptr = partials.to(tl.pointer_type(tl.float64))
                squares_ptr = (squares_at + row * 16).to(tl.pointer_type(tl.float64))
                tl.store(squares_ptr, sum_partials(sums_ptr, count))
                tl.store(squares_ptr + 1, sum_partials(sums_ptr + 1, count))
            k += 1
        i += 1
