"""README's section for many GPUs runs as it stands, on two ranks."""

import re
from pathlib import Path

from distributed.pool import ranks
from distributed.readme_cases import run_blocks

README = Path(__file__).parent.parent / "README.md"


def test_five_lines_each_run_on_two_ranks(tmp_path: Path) -> None:
    section = README.read_text().split("## Many GPUs")[1].split("\n## ")[0]
    ddp, fsdp, checkpoint = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    assert all(len(block.splitlines()) == 5 for block in (ddp, fsdp, checkpoint))
    for setup in (ddp, fsdp):
        answers = ranks(2)(run_blocks, setup, checkpoint, str(tmp_path / str(len(setup))))
        assert answers[0] == answers[1]
        assert answers[0][0] == answers[0][1]  # the checkpoint brought everything back
        assert answers[0][0][1] == 3
