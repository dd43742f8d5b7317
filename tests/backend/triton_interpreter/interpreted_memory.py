"""Steps of the Triton backend after a tensor has moved: a few of the cases of tests/memory/."""

import cases  # noqa: F401  makes the interpreter exact
import pytest
from memory.between import Trial
from memory.subjects import TARGETS
from memory.ways import ways_for

MOVES = ("param-data", "param-swap", "grad-data", "momentum_buffer-data", "first_step-data")
CASES = {
    name: (target, way)
    for target in TARGETS
    for way in ways_for(target)
    if (name := f"{target.name}-{way.name}") in MOVES
}


@pytest.mark.parametrize("name", MOVES)
def test_a_step_after_a_move_is_right(name) -> None:
    Trial("triton", *CASES[name], "warm").run()
