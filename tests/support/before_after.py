"""Runs the pairs of examples/before_after and counts the lines that differ."""

import difflib
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import fused_warmup

FOLDER = Path(__file__).parents[2] / "examples" / "before_after"


def changed_lines(before: str, after: str) -> int:
    """Lines to write, replace or delete, imports included, blank lines not."""
    old, new = ([line for line in text.splitlines() if line.strip()] for text in (before, after))
    return sum(
        max(i2 - i1, j2 - j1)
        for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, False).get_opcodes()
        if tag != "equal"
    )


def run(path: Path) -> tuple[type, list[float], torch.Tensor]:
    """Run a script; return its optimizer's class, its groups' rate at each step, the weights."""
    kinds: set[type] = set()
    rates: list[float] = []

    def note(opt: Any, *_: Any) -> None:
        ours = type(opt) is fused_warmup.SGD
        kinds.add(type(opt))
        (rate,) = set(opt.get_last_lr() if ours else [group["lr"] for group in opt.param_groups])
        rates.append(rate)

    hook = register_optimizer_step_post_hook(note)
    try:
        model = runpy.run_path(str(path), run_name="__main__")["model"]
    finally:
        hook.remove()
    (kind,) = kinds
    return kind, rates, torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def check_pair(name: str) -> list[float]:
    """Assert that at most three lines make the same training ours; return its rates."""
    before, after = FOLDER / f"{name}_before.py", FOLDER / f"{name}_after.py"
    assert 1 <= changed_lines(before.read_text(), after.read_text()) <= 3
    kind, expected, weights = run(before)
    assert kind is torch.optim.SGD
    ours, rates, final = run(after)
    assert ours is fused_warmup.SGD
    assert len(set(rates)) > 4
    # Rates may differ in the last bits of a float64, and so the weights in those of a float32.
    assert rates == pytest.approx(expected, rel=1e-12, abs=0.0)
    torch.testing.assert_close(final, weights, rtol=1e-6, atol=1e-7)
    return rates
