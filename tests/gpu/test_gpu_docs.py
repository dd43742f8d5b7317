"""The CUDA graph of docs/amp_and_graphs.md runs as it stands."""

import pytest
from support.gpu_cases import NEEDS_GPU
from support.pages import ROOT, blocks

pytestmark = NEEDS_GPU


def test_a_training_step_is_captured_and_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(ROOT / "docs" / "amp_and_graphs.md", "py")
    names: dict[str, object] = {}
    exec(block, names)
    assert capsys.readouterr().out == "23\n"
    schedule, opt = names["schedule"], names["opt"]
    assert opt.get_last_lr() == pytest.approx([0.1 * schedule(22)], rel=1e-6)  # type: ignore[attr-defined, operator]
