"""What a step writes beside a parameter on the device: its average, and a master's rounded copy."""

import triton
import triton.language as tl

from .rates import ema_weight
from .schedule import load_int32, load_int64, places

EXTRAS_SIZE, EMA, ROUNDED, ROUNDED_DTYPE = map(
    tl.constexpr, places("Extras", "size", "ema", "rounded", "rounded_dtype")
)
BFLOAT16, FLOAT16 = map(tl.constexpr, places("DType", "BFLOAT16", "FLOAT16"))


@triton.jit
def narrowed(x, DTYPE: tl.constexpr):
    """Return ``x`` in the storage type: by way of float32, as torch and the C++ kernels do."""
    if DTYPE.primitive_bitwidth == 16:
        x = x.to(tl.float32)
    return x.to(DTYPE)


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
