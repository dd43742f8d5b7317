"""Nothing that Python does to a tensor, at any moment, ends the process or spoils a number.

The cases are in memory/; each runs in a forked process (memory/runner.py), so that a crash is one
case's failure.
"""

import pytest
from memory import between, conversions, loads, moments, private, readers, runner, threads

CASES = [
    f"{module.__name__.rpartition('.')[2]}/{case}"
    for module in (between, conversions, loads, moments, private, readers, threads)
    for case in module.CASES
]


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> dict[str, str]:
    """What became of each case that this run selects."""
    selected = [
        item.callspec.params["case"]
        for item in request.session.items
        if item.module is request.module and "verdicts" in item.fixturenames
    ]
    return runner.run(selected)


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, verdicts: dict[str, str]) -> None:
    assert not verdicts[case], verdicts[case]


def test_a_case_that_dies_is_the_one_that_fails() -> None:
    verdicts = runner.run(["dying/fine", "dying/raises", "dying/dies", "dying/goes_on"])
    assert verdicts["dying/fine"] == verdicts["dying/goes_on"] == ""
    assert "SIGSEGV" in verdicts["dying/dies"] or "exit status 1" in verdicts["dying/dies"]
    assert "AssertionError: as it should" in verdicts["dying/raises"]
