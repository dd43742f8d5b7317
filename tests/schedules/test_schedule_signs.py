"""check_factors against every value of a segment: it looks at few of them."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.strategies import segments

from fused_warmup import Schedule
from fused_warmup.schedules import Kind, PastEnd, Segment
from fused_warmup.schedules.signs import check_factors


@given(segments(), st.integers(0, 300))
@example(Segment(Kind.COS, PastEnd.CONTINUE, length=40.0, a=-0.25, b=0.25, origin=-20), 20)
@example(Segment(Kind.COS, PastEnd.CONTINUE, length=40.0, a=-0.25, b=0.25, origin=-20), 60)
@example(Segment(Kind.COS, length=40.0, a=1.0, b=-1e-3, m=3.0, k=2.0), 300)
@example(
    Segment(Kind.COS, PastEnd.CONTINUE, 99, stair=3, shift=0.25, length=2.5, b=-1, p=0.5, m=2), 15
)
@example(Segment(past_end=PastEnd.CONTINUE, length=2.5, p=2.0, k=2.0, shift=-9.0, b=-0.5), 20)
@example(Segment(Kind.TABLE, values=(1.0, -1.0, 1.0), origin=0, stair=2), 9)
@example(Segment(Kind.TABLE, values=(1.0, 1.0, -1.0), stair=2, period=7, b=0.5), 9)
@example(Segment(Kind.TABLE, values=(0.0, 0.0, -0.5, 0.0, -1.0), period=7), 3)
@example(Segment(Kind.TABLE, values=(-1.0, 0.0, 0.0, -0.5), origin=-1, period=7), 3)
def test_tells_what_looking_at_all_would(segment, more) -> None:
    last = segment.start + more
    lowest = min(segment.value_at(t) for t in range(segment.start, last + 1))
    rounding = 0.0 if segment.values else 2.0**-50 * max(abs(segment.a), abs(segment.b))
    try:
        check_factors(segment, last)
    except ValueError as error:
        # Of many waves, not every one is looked at.
        waves = "got waves down to" in str(error) and min(segment.a, segment.b) < 0.0
        assert lowest < -rounding or waves
    else:
        assert lowest >= -rounding


def test_an_anchor_below_zero_that_no_step_reaches_is_no_matter() -> None:
    """What a converter makes of a cosine that was halved on its way."""
    late = Segment(Kind.COS, PastEnd.CONTINUE, length=10.0, a=-0.25, b=0.25, start=8, origin=0)
    head = Segment.constant(0.5)
    schedule = Schedule((head, late, Segment.constant(0.25, 11)))
    assert all(0.2 < schedule(t) <= 0.25 for t in (8, 9, 10))
    with pytest.raises(ValueError, match=r"got -0\.0.* at step 16"):
        Schedule((head, late, Segment.constant(0.25, 17)))


def test_no_number_is_refused_too() -> None:
    grows = Segment(length=4.0, period=9, log_cycle_gain=1.0)
    assert math.isnan(grows.value_at(2**62))
    with pytest.raises(ValueError, match="got nan"):
        check_factors(grows, 2**62)
    check_factors(grows, 1000)
