"""The built site in a browser: each page at the widths of a phone and of a laptop.

Needs what `make docs` needs, the package playwright and Debian's ``chromium``; nothing is fetched
from a network.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from support import PATIENCE
from support.pages import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
NEEDED = ("sphinx", "myst_parser", "furo", "sphinx_copybutton", "matplotlib", "playwright")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
MISSING += [] if CHROMIUM else ["the program chromium (apt-get install chromium)"]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

PHONE, LAPTOP = 390, 1440
SMALLEST_TEXT = 8  # CSS pixels from the top of a letter's box to its bottom, in a picture

# What is cut off, or must be scrolled to be read: tables and code may scroll on a phone only.
OVERFLOWS = """() => {
  const wide = [];
  if (document.documentElement.scrollWidth > window.innerWidth)
    wide.push(`the page: ${document.documentElement.scrollWidth}`);
  if (window.innerWidth >= 1440)
    for (const e of document.querySelectorAll("article pre, article .table-wrapper"))
      if (e.scrollWidth > e.clientWidth + 1)
        wide.push(`${e.tagName} by ${e.scrollWidth - e.clientWidth}: ${e.innerText.slice(0, 200)}`);
  return wide;
}"""
SMALL_TEXTS = """(smallest) => [...document.querySelectorAll("article svg text")]
  .filter(e => e.getBoundingClientRect().height < smallest).map(e => e.textContent)"""
LINKS = """() => [...document.querySelectorAll("a[href], img[src], link[href], script[src]")]
  .map(e => e.href || e.src)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, written anew, warnings being errors; `make docs` may have read the sources."""
    out = tmp_path_factory.mktemp("site")
    command = "sphinx -q -W --keep-going -d build/doctrees docs"
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), out],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Containers have neither the user namespaces nor the shared memory that it would like.
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


def pages(site: Path) -> list[Path]:
    """Every page, and of the sources, which are all made alike, one a folder."""
    found = sorted(site.rglob("*.html"))
    sources = {page.parent: page for page in found if site / "source" in page.parents}
    return [page for page in found if sources.get(page.parent, page) == page]


@cache
def ids(file: Path) -> set[str]:
    return set(re.findall(r'(?:id|name)="([^"]+)"', file.read_text()))


def dead(link: str) -> bool:
    """Whether a link within the site leads nowhere; others would need the network."""
    parts = urlsplit(link)
    if parts.scheme != "file":
        return parts.scheme not in ("https", "mailto", "javascript", "data")
    file = Path(unquote(parts.path))
    if not file.is_file():
        return True
    anchor = unquote(parts.fragment)
    return bool(anchor) and file.suffix == ".html" and anchor not in ids(file)


@pytest.mark.slow
def test_every_page_fits_and_is_without_errors(site: Path, browser: Any) -> None:
    tab = browser.new_page()
    said: list[str] = []
    tab.on("console", lambda message: message.type == "error" and said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("requestfailed", lambda request: said.append(f"not found: {request.url}"))
    wrong = {}
    for page in pages(site):
        tab.goto(page.as_uri())
        found = [f"dead: {link}" for link in tab.evaluate(LINKS) if dead(link)]
        for width in (PHONE, LAPTOP):
            tab.set_viewport_size({"width": width, "height": 900})
            wide = [*tab.evaluate(OVERFLOWS), *tab.evaluate(SMALL_TEXTS, SMALLEST_TEXT)]
            found += [f"at {width} px: {each}" for each in wide]
        found += said
        said.clear()
        if found:
            wrong[page.relative_to(site).as_posix()] = found
    tab.close()
    assert wrong == {}


def test_no_description_is_taken_for_a_type(site: Path) -> None:
    """Napoleon reads what stands before a colon in a property's first line as its type."""
    for page in (site / "api").glob("*.html"):
        types = re.findall(r'>Type<span class="colon">:</span></dt>\s*<dd.*', page.read_text())
        words = [re.sub(r"<[^>]+>", "", each) for each in types]
        assert [each for each in words if re.search(r"\w \w", each)] == [], page.name


def test_curves_are_factors_on_what_they_drive(site: Path) -> None:
    text = (site / "schedules.html").read_text()
    for expression, of in (("one_cycle(1000)", "lr"), ("one_cycle_momentum(1000)", "momentum")):
        _, _, picture = text.partition(f'aria-label="{expression}"')
        assert f"factor on {of}<" in picture[: picture.index("</svg>")]


def test_sources_are_pages_and_objects_lead_to_theirs(site: Path) -> None:
    assert not (site / "_downloads").exists()
    text = (site / "api" / "optimizer.html").read_text()
    found = re.search(r'id="fused_warmup\.SGD".*?source/(\S+?)\.html#line-(\d+)', text, re.DOTALL)
    assert found
    lines = (ROOT / found[1]).read_text().splitlines()
    assert lines[int(found[2]) - 1].startswith("class SGD(")


def test_names_of_torch_and_python_lead_to_their_documentation(site: Path) -> None:
    text = (site / "api" / "optimizer.html").read_text()
    assert "https://docs.pytorch.org/docs/stable/tensors.html#torch.Tensor" in text
    assert "https://docs.python.org/3/library/exceptions.html#ValueError" in text


def test_code_has_a_button_that_copies_it(site: Path, browser: Any) -> None:
    tab = browser.new_page()
    tab.goto((site / "quick_start.html").as_uri())
    assert tab.locator("button.copybtn").count() == tab.locator("article pre").count() > 0
    tab.close()


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("tensorboard", "logging"),
        ("wandb", "logging"),
        ("torchvision", "torchvision"),
        ("faster", "faq"),
        ("FAQ", "faq"),
        ("V100", "faq"),
        ("LinearLR", "coming_from/torch"),
        ("DDP", "multi_gpu"),
    ],
)
def test_the_search_finds(site: Path, browser: Any, words: str, page: str) -> None:
    tab = browser.new_page()
    tab.goto(f"{(site / 'search.html').as_uri()}?q={words}")
    tab.wait_for_selector("ul.search li a")
    tab.wait_for_function("!document.querySelector('#search-progress')?.innerText.includes('.')")
    found = tab.eval_on_selector_all("ul.search li a", "links => links.map(a => a.href)")
    assert any(f"/{page}.html" in link for link in found)
    tab.close()
