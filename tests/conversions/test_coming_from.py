"""docs/coming_from/: the first case of each page runs as it stands, in three lines at most."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.pages import ROOT, anchors, blocks, links

import fused_warmup

INDEX = ROOT / "docs" / "coming_from.md"
PAGES = sorted((ROOT / "docs" / "coming_from").glob("*.md"))
CASES = [page for page in PAGES if page.stem != "trainers"]
# The headings that others link to, from the time when all of them were one page.
OLD_ANCHORS = {
    "torch", "apex", "supergradients", "hugging-face", "timm", "optax",
    "lightning-accelerate-torchcompile",
}  # fmt: skip


@pytest.mark.parametrize("page", CASES, ids=[page.stem for page in CASES])
def test_runs(page: Path) -> None:
    names, case, *_ = blocks(page, "python")
    known: dict[str, Any] = {}
    exec(names, known)
    exec(case, known)
    lines = [line for line in case.splitlines() if "torch." not in line]
    assert len(lines) <= 3
    opt, model = known["opt"], known["model"]
    assert type(opt) is fused_warmup.SGD
    assert opt.param_groups[0]["schedule"] is not None
    for _ in range(2):
        model(torch.ones(3, 4)).sum().backward()
        opt.step()
    assert opt.steps_applied == 2


def test_the_first_page_leads_to_each() -> None:
    found = {(INDEX.parent / link).resolve() for link in links(INDEX)}
    assert set(PAGES) <= found
    assert anchors(INDEX) >= OLD_ANCHORS
