"""The device code of the Triton backend: every tensor of a device in one launch.

`sgd_step` walks through a program's share of the work and calls ``update.py`` for each tensor. The
tables are those of ``csrc/launch/tables.h``, at the offsets that the extension tells.
"""

import triton
import triton.language as tl

from .extras import EXTRAS_SIZE
from .line import SHARE_ENTRY, SHARE_SIZE, share_end, span_of
from .rates import rates_at
from .schedule import load_int32, load_int64, next_count, places
from .update import update_span

# Of the structs in csrc, in bytes.
ENTRY_SIZE, PARAM_DTYPE, GRAD_DTYPE, GROUP = map(
    tl.constexpr, places("TensorEntry", "size", "param_dtype", "grad_dtype", "group")
)
GROUP_SIZE = tl.constexpr(*places("Group", "size"))

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
