"""A tensor's own rate on the device: ``csrc/math/lars.h`` in Triton."""

import triton
import triton.language as tl

from .schedule import load_double, places

ROW, WEIGHT_DECAY, TRUST_COEFFICIENT, TRUST_EPS = map(
    tl.constexpr,
    (
        *places("TensorEntry", "row"),
        *places("Group", "weight_decay", "trust_coefficient", "trust_eps"),
    ),
)
ADAPT, TRUST_CLIP, LR_IN_MOMENTUM = map(
    tl.constexpr, places("Group", "adapt", "trust_clip", "lr_in_momentum")
)
FLOAT_MAX = tl.constexpr(3.4028234663852886e38)
DOUBLE_MAX = tl.constexpr(1.7976931348623157e308)


@triton.jit
def is_set(at):
    """Return whether the switch is on that lies at an address."""
    return tl.load(at.to(tl.pointer_type(tl.int32))) != 0


@triton.jit
def trust_ratio(squares, group, lr):
    """Return the ratio of a tensor whose sums of squares lie at an address."""
    param, grad = load_double(squares), load_double(squares + 8)
    adapts = is_set(group + ADAPT) & (param > 0.0) & (grad > 0.0)
    param, grad = tl.sqrt(param), tl.sqrt(grad)
    below = grad + load_double(group + WEIGHT_DECAY) * param + load_double(group + TRUST_EPS)
    ratio = load_double(group + TRUST_COEFFICIENT) * param / tl.where(adapts, below, 1.0)
    clipped = tl.where(ratio < lr, ratio / tl.where(ratio < lr, lr, 1.0), 1.0)
    ratio = tl.where(is_set(group + TRUST_CLIP), clipped, ratio)
    return tl.where(adapts, ratio, 1.0)


@triton.jit
def layer_rate_of(entry, group, lr, squares_at, OPMATH: tl.constexpr):
    """Return the factor on a tensor's gradient, and that on what becomes of it.

    Where the rate is part of the momentum, the momentum is what a step subtracts.
    """
    row = tl.load((entry + ROW).to(tl.pointer_type(tl.int32))).to(tl.int64)
    ratio = trust_ratio(squares_at + row * 16, group, lr)
    inside = is_set(group + LR_IN_MOMENTUM)
    rate = tl.where(inside, lr * ratio, ratio)
    most = DOUBLE_MAX if tl.float64 == OPMATH else FLOAT_MAX
    rate = tl.where(rate > most, most, rate)
    return rate.to(OPMATH), tl.where(inside, 1.0, lr)
