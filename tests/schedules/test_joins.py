"""join_schedules beside its definition, and schedules whose clock ticks once in many steps."""

import pytest

from fused_warmup.schedules import (
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    exponential,
    inverse_sqrt,
    join_schedules,
    linear_warmup,
    multi_step,
    one_cycle,
    step,
    table,
)

PARTS = [linear_warmup(5), cosine(7), step(3, 0.5), inverse_sqrt(4), exponential(0.9)]


@pytest.mark.parametrize("bounds", [(5, 9, 12, 20), (1, 2, 3, 4), (0, 4, 4, 9), (5, 5, 5, 5)])
def test_each_part_counts_from_its_boundary(bounds: tuple[int, ...]) -> None:
    joined = join_schedules(PARTS, bounds)
    for t in range(40):
        value = PARTS[0](t)
        for boundary, part in zip(bounds, PARTS[1:], strict=True):  # as optax states it
            value = value if t < boundary else part(t - boundary)
        assert joined(t) == pytest.approx(value, rel=1e-14, abs=1e-14)


def test_length_is_that_of_the_last() -> None:
    assert join_schedules([constant(), cosine(6)], [4]).steps == 10
    assert join_schedules([cosine(6), constant()], [4]).steps is None
    assert join_schedules([cosine(6)], []) == cosine(6)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="one fewer"):
        join_schedules([constant(), constant()], [])
    with pytest.raises(ValueError, match="sort them"):
        join_schedules([constant()] * 3, [5, 4])
    with pytest.raises(TypeError, match="Schedules"):
        join_schedules([constant(), 0.5], [5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "schedule",
    [
        *PARTS,
        cosine_restarts(3, 2),
        cosine_restarts(4),
        cyclic(2, 3, mode="triangular2"),
        table([1.0, 0.5, 0.25]),
        table([1.0, 0.5, 0.25], past_end="repeat"),
        linear_warmup(3).then(table([1.0, 0.5])),
        linear_warmup(3).then(table([1.0, 0.9, 0.8, 0.7, 0.6]), clock="global"),
        linear_warmup(4).then(multi_step([6, 9]), clock="global"),
        one_cycle(13),
    ],
    ids=repr,
)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_stretched(schedule: Schedule, steps: int) -> None:
    slow = schedule.stretched(steps)
    assert slow.steps == (None if schedule.steps is None else schedule.steps * steps)
    for t in range(30 * steps):
        assert slow(t) == pytest.approx(schedule(t // steps), rel=1e-14, abs=1e-15)


def test_stretched_by_nothing() -> None:
    with pytest.raises(ValueError, match="steps"):
        constant().stretched(0)
