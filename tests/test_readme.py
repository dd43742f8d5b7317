"""README's Python runs as it stands and prints what it says."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"


def test_examples_run_and_print_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(block, namespace)
        printed = capsys.readouterr().out
        for expected in re.findall(r"print\(.*\)  # (\d.*?)(?:\.\.\.\])?$", block, re.MULTILINE):
            assert printed.startswith(expected)
