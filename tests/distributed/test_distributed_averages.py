"""Averages and masters over ranks: the bits of one process, across world sizes and checkpoints."""

from pathlib import Path

import pytest
import torch
from distributed import average_cases
from support import same_bits
from support.pool import ranks


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_trains_evaluates_and_resumes_at_another_world_size(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Evaluated by swap_averaged after each step; saved by two ranks, loaded by one and by two."""
    _, expected, loss = average_cases.session("alone", dtype, 0, 5, "", "")
    saved = str(tmp_path / "saved")
    ranks(2)(average_cases.session, kind, dtype, 0, 3, "", saved)
    resumed = [
        average_cases.session("alone", dtype, 3, 2, saved, ""),
        *ranks(2)(average_cases.session, kind, dtype, 3, 2, saved, ""),
    ]
    for _, values, evaluated in resumed:
        assert all(map(same_bits, values, expected))
        assert evaluated == loss
