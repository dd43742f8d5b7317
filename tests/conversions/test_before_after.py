"""At most three lines: a torch loop and a SuperGradients recipe, before and after.

Hugging Face's Trainer has its pair in integrations/test_trainer.py.
"""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import super_gradients_stand_in
from support.before_after import FOLDER, changed_lines, check_pair

FIGURES = Path(__file__).parents[1] / "support" / "golden"
GOLDEN = json.loads((FIGURES / "supergradients.json").read_text())


def test_torch_loop() -> None:
    rates = check_pair("torch_loop")
    assert len(rates) == 20
    assert rates[0] == pytest.approx(0.04)


def test_super_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("super_gradients", "super_gradients.training", "super_gradients.training.metrics"):
        module = ModuleType(name)
        module.__dict__.update(vars(super_gradients_stand_in))
        monkeypatch.setitem(sys.modules, name, module)
    rates = check_pair("super_gradients")
    (recorded,) = (c for c in GOLDEN["cases"] if c["name"] == "epoch warmup then cosine")
    assert rates == pytest.approx(recorded["lr"], rel=1e-12, abs=0.0)


def test_every_pair_is_whole() -> None:
    names = {path.stem.rpartition("_")[::2] for path in FOLDER.glob("*.py")}
    assert names == {
        (name, when)
        for name in ("torch_loop", "super_gradients", "trainer")
        for when in ("before", "after")
    }


def test_lines_are_counted() -> None:
    assert changed_lines("a\nb\nc\n", "a\n\nb\nc\n") == 0
    assert changed_lines("a\nb\nc\n", "a\nx\nc\n") == 1
    assert changed_lines("a\nb\nc\n", "x\na\nc\ny\n") == 3
    assert changed_lines("a\nb\n", "a\nx\ny\nb\nz\n") == 3
