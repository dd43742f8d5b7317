"""The pages that people read, and what the tests of several of them ask of a page."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fences(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each fenced block."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in fences(page) if found == language]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them, and of what it documents."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    return slugs | documented(page)


def documented(page: Path) -> set[str]:
    """Names that a page's ``autoclass`` and ``autofunction`` document."""
    return set(re.findall(r"^\.\. auto\w+:: ([\w.]+)$", page.read_text(), re.MULTILINE))


def links(page: Path) -> list[str]:
    """Targets of the links and pictures outside of code, those with a scheme left out."""
    text = re.sub(
        r"^```.*?^```$|`[^`\n]*`(?!\])", "", page.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    return [each for each in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"\w+:", each)]
