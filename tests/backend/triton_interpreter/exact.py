"""Triton's interpreter with the arithmetic of a GPU.

The interpreter of Triton 3.6 rounds a fused multiply-add twice and truncates to bfloat16. Kernels
that are compared with the reference bit for bit need both done as hardware does them.
"""

import platform

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


def torch_fuses() -> bool:
    """Tell whether torch's own kernels, and so the reference, have a fused multiply-add."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return not x86 or torch.backends.cpu.get_cpu_capability() != "DEFAULT"


def two_sum(a, b):
    """Return the rounded sum and its error, which are exact together (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a, b):
    """Return the rounded product and its error, which are exact together (Dekker)."""

    def split(x):
        c = 134217729.0 * x
        high = c - (c - x)
        return high, x - high

    (ah, al), (bh, bl) = split(a), split(b)
    p = a * b
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def add_to_odd(a, b):
    """Return a + b rounded to odd: then another rounding gives what one rounding would have."""
    s, error = two_sum(a, b)
    bits = s.view(np.int64)
    away = np.where((error > 0) == (s > 0), 1, -1)
    inexact_and_even = np.isfinite(s) & (error != 0) & (bits & 1 == 0)
    return np.where(inexact_and_even, bits + away, bits).view(np.float64)


def fma(x, y, z):
    """Return x * y + z rounded once (Boldo and Melquiond, 2008)."""
    x, y, z = np.broadcast_arrays(x, y, z)
    with np.errstate(all="ignore"):
        if z.dtype == np.float32:
            x, y, z = (each.astype(np.float64) for each in (x, y, z))
            return add_to_odd(x * y, z).astype(np.float32)
        product, product_error = two_product(x, y)
        t, t_error = two_sum(z, product_error)
        v, v_error = two_sum(product, t)
        result = v + add_to_odd(t_error, v_error)
        # Where the sum is 0 the product is exact, and only the plain sum knows the 0's sign.
        return np.where(np.isfinite(result) & (result != 0), result, x * y + z)


def install() -> None:
    """Make the interpreter of this process exact."""
    inexact_cast = InterpreterBuilder.cast_impl

    def cast(self, src, dst_type):
        if src.dtype.scalar == tl.float32 and dst_type.scalar == tl.bfloat16:
            rounded = torch.from_numpy(np.ascontiguousarray(src.data)).bfloat16()
            data = rounded.view(torch.int16).numpy().view(np.uint16)
            return TensorHandle(data, tl.bfloat16)
        return inexact_cast(self, src, dst_type)

    def create_fma(self, x, y, z):
        return TensorHandle(fma(x.data, y.data, z.data), z.dtype.scalar)

    InterpreterBuilder.cast_impl = cast
    if torch_fuses():
        InterpreterBuilder.create_fma = create_fma
