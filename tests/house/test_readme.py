"""README's numbers are those of results that are committed."""

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest
from support import PATIENCE
from support.pages import ROOT

import fused_warmup
from benchmarks import front
from benchmarks.results import Results

README = (ROOT / "README.md").read_text()


def test_the_finding_is_that_of_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """README and the page show what the demo makes of the errors that it has written."""
    pytest.importorskip("matplotlib", reason="matplotlib, which the demo draws with, is missing")
    pytest.importorskip("tqdm", reason="tqdm, the demo's progress bar, is not installed")
    monkeypatch.syspath_prepend(ROOT / "examples")
    import demo

    found = json.loads((ROOT / "docs" / "demo.json").read_text())
    target = found["errors of the small batch"]
    band = {
        name: {float(lr): errors for lr, errors in rates.items()}
        for name, rates in found["errors"].items()
    }
    demo.print_table(band, target)
    assert capsys.readouterr().out in (ROOT / "docs" / "demo.md").read_text()
    assert len(target) == 5
    none, gradual = (f"{mean(band[name][0.3]):.1f}" for name in (demo.NONE, demo.GRADUAL))
    small = f"{mean(target):.1f}"
    finding = f"{gradual} % test error with a gradual warm-up"
    assert f"{finding}, {none} % without" in demo.finding(band, quick=False)
    assert README.count(finding) == 2  # the sentence, and what the picture says
    assert f"{finding} and at {none} % without; minibatches of 50 end at {small} %" in README
    assert f"{finding}, {none} % without" in README


def test_the_speeds_are_those_of_committed_results() -> None:
    (file,) = (ROOT / "benchmarks" / "results").glob("*/results.json")
    saved = Results.load(file)
    assert front.speed_table(saved) in README
    assert f"]({file.parent.relative_to(ROOT)}/speed.png)" in README
    assert (
        f"- commit: {saved.data['environment']['commit']}\n"
        in (file.parent / "REPORT.md").read_text()
    )


@pytest.mark.parametrize("repository", ["", "https://example.org/owner/name"])
def test_links_lead_somewhere_on_a_package_index(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the metadata have it: to the version's tag, or nowhere at all."""
    monkeypatch.setenv("FUSED_WARMUP_REPOSITORY", repository)
    monkeypatch.setenv("FUSED_WARMUP_CUDA", "0")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)
    metadata = (tmp_path / "fused_warmup.egg-info" / "PKG-INFO").read_text()
    assert "Description-Content-Type: text/markdown" in metadata
    _, _, text = metadata.partition("\n\n")
    assert text.startswith("# fused_warmup")
    links = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text)
    tag = f"v{fused_warmup.__version__}"
    wanted = [
        f"{repository}/{'raw' if picture else 'blob'}/{tag}/{target}"
        for picture, target in re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", README)
    ]
    assert links == (wanted if repository else [])
