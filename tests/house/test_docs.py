"""README and docs: their Python runs and prints what it says, their links lead somewhere."""

import importlib
import re
from itertools import chain
from pathlib import Path

import pytest
import torch
from support.pages import PAGES, ROOT, anchors, blocks, documented, fences, links, name_of

import fused_warmup
from fused_warmup import schedules

# Who runs the blocks of each language; any other Python would be run by nobody.
RUNNERS = {
    "python": "here, a page in one namespace",
    "py": "test_distributed_docs.py and test_gpu_docs.py",
    "{schedule}": "here",
}
INCLUDED = ("README", "CONTRIBUTING", "CHANGELOG", "benchmarks/results/AMD_EPYC/REPORT")
NOT_PYTHON = {"sh", "bash", "text", "{toctree}", "{eval-rst}"}
WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
API = sorted((ROOT / "docs" / "api").glob("*.md"))
GALLERY = ROOT / "docs" / "schedules.md"


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_runs_and_prints_what_it_says(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A comment after a print is its output, up to "...", or begins with "says" and tells of it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, name_of(page), "exec"), namespace)
        printed = iter(capsys.readouterr().out.splitlines())
        for line in re.findall(r"^print\(.*$", block, re.MULTILINE):
            _, _, expected = line.partition(")  # ")
            assert expected, f"say what this prints: {line}"
            if expected.startswith("says "):
                assert next(printed)
            elif "..." in expected:
                assert next(printed).startswith(expected.partition("...")[0])
            else:
                assert next(printed) == expected
        assert list(printed) == []


def test_no_block_of_python_is_left_out() -> None:
    pages = {name_of(page): {language for language, _ in fences(page)} for page in PAGES}
    assert {"README.md", "docs/quick_start.md", "docs/coming_from/torch.md"} <= {
        name for name, languages in pages.items() if "python" in languages
    }
    assert [name for name, languages in pages.items() if "py" in languages] == [
        "docs/amp_and_graphs.md",
        "docs/multi_gpu.md",
    ]
    included = {f"{{include}} ../{name}.md" for name in INCLUDED}
    known = {*RUNNERS, *NOT_PYTHON, *included}
    assert {name: languages - known for name, languages in pages.items() if languages - known} == {}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        if anchor:
            assert anchor in anchors(target), link


def test_reference_has_every_public_name_once() -> None:
    modules = ["", ".schedules", ".recipes", ".conversions", ".distributed"]
    wanted = set()
    for module in (importlib.import_module(f"fused_warmup{each}") for each in modules):
        wanted |= {getattr(module, name) for name in module.__all__ if name != "schedules"}
    found = []
    for name in chain.from_iterable(map(documented, API)):
        module, _, attribute = name.rpartition(".")
        found.append(getattr(importlib.import_module(module), attribute))
    assert wanted - set(found) == set()
    assert len(found) == len(set(found))


def test_gallery_draws_every_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    pytest.importorskip("matplotlib")
    drawing = importlib.import_module("plot_schedules")
    expressions = [re.sub(r"^:.*\n", "", text).strip() for text in blocks(GALLERY, "{schedule}")]
    builders = {name for name in schedules.__all__ if name.islower()}
    used = {name for text in expressions for name in re.findall(r"\b[a-z]\w*(?=\()", text)}
    assert builders - used == set()
    for expression in expressions:
        assert isinstance(drawing.schedule_of(expression), fused_warmup.Schedule)
    svg = drawing.inline_svg(drawing.schedule_of(expressions[0]), 20, "a < b")
    assert svg.startswith('<svg class="schedule" role="img" aria-label="a &lt; b"')
    assert "currentColor" in svg
    assert drawing.INK not in svg
    with pytest.raises(TypeError, match="makes a float, the gallery draws Schedules"):
        drawing.schedule_of("constant()(3)")
