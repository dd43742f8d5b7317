"""What properties of schedules are tried with: schedules that builders make, and any segment."""

from hypothesis import strategies as st

from fused_warmup.schedules import (
    Kind,
    PastEnd,
    Segment,
    constant,
    constant_warmup,
    cosine,
    cosine_restarts,
    cosine_warmup,
    cyclic,
    exponential,
    exponential_warmup,
    from_callable,
    inverse_sqrt,
    linear,
    linear_warmup,
    multi_step,
    one_cycle,
    polynomial,
    step,
    table,
    warmup_stable_decay,
)

LENGTHS = st.integers(1, 60)
FACTORS = st.floats(0.0, 2.0)
RATIOS = st.floats(1e-3, 1.0)

BUILT = st.one_of(
    st.builds(constant, FACTORS, LENGTHS),
    st.builds(constant_warmup, LENGTHS, FACTORS),
    st.builds(linear_warmup, LENGTHS, FACTORS, count_from=st.integers(0, 1)),
    st.builds(cosine_warmup, LENGTHS, FACTORS),
    st.builds(exponential_warmup, LENGTHS, RATIOS),
    st.builds(linear, LENGTHS, FACTORS, FACTORS),
    st.builds(polynomial, LENGTHS, st.floats(0.3, 3.0), FACTORS),
    st.builds(cosine, LENGTHS, FACTORS),
    st.builds(exponential, RATIOS, LENGTHS),
    st.builds(inverse_sqrt, LENGTHS),
    st.builds(step, LENGTHS, RATIOS),
    st.builds(multi_step, st.lists(LENGTHS, min_size=1, max_size=5), RATIOS),
    st.builds(cosine_restarts, LENGTHS, st.sampled_from([1, 1.5, 2, 3]), FACTORS, RATIOS),
    st.builds(
        cyclic, LENGTHS, LENGTHS, RATIOS, mode=st.sampled_from(["triangular", "triangular2"])
    ),
    st.builds(one_cycle, st.integers(2, 60), st.floats(0.0, 1.0)),
    st.builds(warmup_stable_decay, LENGTHS, LENGTHS, LENGTHS),
    st.builds(table, st.lists(FACTORS, min_size=1, max_size=9)),
    st.builds(from_callable, st.just(lambda t: 1 / (1 + t)), LENGTHS),
)
FINITE = st.builds(lambda schedule, steps: schedule.lasting(steps), BUILT, LENGTHS)


VALUES = st.floats(-4.0, 4.0)


@st.composite
def segments(draw, kinds=tuple(Kind)):
    """Any valid segment whose values stay within a few thousand over its first lengths."""
    kind = draw(st.sampled_from(kinds))
    start = draw(st.integers(0, 1000))
    period = draw(st.sampled_from([0, 0, 7, 100]))
    chosen = {
        "kind": kind,
        "past_end": draw(st.sampled_from(PastEnd)),
        "start": start,
        "origin": draw(st.integers(0, start)),
        "stair": draw(st.sampled_from([1, 1, 3, 10])),
        "period": period,
        "shift": draw(st.sampled_from([0.0, 0.25, 3.0])),
        "length": draw(st.sampled_from([1.0, 2.5, 40.0, 1000.0])),
        "a": draw(VALUES),
        "b": draw(VALUES),
        "p": draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5])),
        "k": draw(st.sampled_from([0.5, 1.0, 2.0])),
        "m": draw(st.sampled_from([1.0, 2.0, 0.5])),
        "log_cycle_gain": draw(st.floats(-1.0, 0.0)) if period else 0.0,
    }
    if kind is Kind.TABLE:
        chosen["values"] = tuple(draw(st.lists(VALUES, min_size=1, max_size=9)))
    return Segment(**chosen)
