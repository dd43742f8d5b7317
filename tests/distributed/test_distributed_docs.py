"""docs/multi_gpu.md runs as it stands, on two ranks."""

from pathlib import Path

import pytest
from distributed.docs_cases import checkpointed, elastic, run, taken_over, uneven
from support.pages import ROOT, blocks
from support.pool import ranks

IMPORTS, DDP, FSDP, CHECKPOINT, FROM_TORCH, ELASTIC, ZERO, UNEVEN, INSIDE = blocks(
    ROOT / "docs" / "multi_gpu.md", "py"
)
# The page's optimizer of FSDP2 over the page's DDP model.
PLAIN = DDP.splitlines()[0] + "\n" + FSDP.splitlines()[3]


@pytest.mark.parametrize("setup", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_five_lines_and_a_checkpoint_of_five(setup: str, tmp_path: Path) -> None:
    assert len(setup.splitlines()) == len(CHECKPOINT.splitlines()) == 5
    answers = ranks(2)(checkpointed, IMPORTS, setup, CHECKPOINT, str(tmp_path / "checkpoint"))
    assert answers[0] == answers[1]
    assert answers[0][0] == answers[0][1]  # the checkpoint brought everything back
    assert answers[0][0][1] == 3


@pytest.mark.parametrize("setup", [PLAIN, FSDP], ids=["ddp", "fsdp"])
def test_a_checkpoint_of_torchs(setup: str, tmp_path: Path) -> None:
    answers = ranks(2)(taken_over, IMPORTS, setup, FROM_TORCH, str(tmp_path / "checkpoint"))
    assert answers[0] == answers[1]
    expected, found, count = answers[0]
    assert expected == found  # the parameters, and the rate of the last step
    assert count == 5


def test_another_number_of_workers() -> None:
    answers = ranks(2)(elastic, IMPORTS, DDP, ELASTIC)
    assert answers[0] == answers[1]
    before, old, after, new = answers[0]
    # Three updates of 2,503 an epoch are one and a half of 1,252: halves go up.
    assert (before, after) == (3, 2)
    assert (old, new) == ([0.2, 0.2], [0.4, 0.4])


@pytest.mark.parametrize("setup", [ZERO, INSIDE], ids=["zero", "inside backward"])
def test_other_ways_of_the_same_training(setup: str) -> None:
    answers = ranks(2)(run, IMPORTS, setup)
    assert answers[0] == answers[1]
    assert answers[0] == ranks(2)(run, IMPORTS, PLAIN)[0]
    assert answers[0][1] == 3


def test_uneven_inputs() -> None:
    (long, most), (short, fewest) = ranks(2)(uneven, IMPORTS, PLAIN, UNEVEN)
    assert (most, fewest) == (5, 3)
    assert long == short
    assert long[1] == 5
