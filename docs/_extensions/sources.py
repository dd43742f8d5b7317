"""Source files as pages of the site, so that a link to one is read in the browser, not downloaded.

Every source file gets a page, where links from Markdown and the ``[source]`` of each documented
object lead.
"""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("fused_warmup", "csrc", "examples")
SUFFIXES = (".py", ".pyi", ".h", ".cpp", ".cu")


def has_page(file: Path) -> bool:
    inside = file.relative_to(ROOT).parts[0] in FOLDERS if file.is_relative_to(ROOT) else False
    return inside and file.suffix in SUFFIXES


def page_of(file: Path) -> str:
    return f"source/{file.relative_to(ROOT).as_posix()}"


def link_to_pages(app: Sphinx, doctree: nodes.document) -> None:
    """Make links to source files, which Sphinx would offer as downloads, lead to their pages."""
    here = app.env.docname
    for node in list(doctree.findall(download_reference)):
        file = (app.srcdir / Path(here).parent / node["reftarget"]).resolve()
        if has_page(file):
            uri = relative_uri(app.builder.get_target_uri(here), f"{page_of(file)}.html")
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def source_of(domain: str, info: dict[str, str]) -> str | None:
    """The line where an object is defined, for ``sphinx.ext.linkcode``."""
    if domain != "py" or not info["module"]:
        return None
    found: Any = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        found = inspect.getattr_static(found, name, None)
        found = getattr(found, "__func__", found)  # a class or static method's function
    found = inspect.unwrap(found.fget if isinstance(found, property) else found)
    try:
        file = Path(inspect.getsourcefile(found) or "").resolve()
        line = inspect.getsourcelines(found)[1]
    except TypeError:  # a value, as the members of an enumeration are
        return None
    return f"../{page_of(file)}.html#line-{line}" if has_page(file) else None


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield each source file, highlighted, every line with an anchor."""
    for folder in FOLDERS:
        for file in sorted(filter(has_page, (ROOT / folder).rglob("*"))):
            try:
                language = get_lexer_for_filename(file.name).aliases[0]
            except ClassNotFound:
                language = "text"
            code = app.builder.highlighter.highlight_block(
                file.read_text(), language, linenos="inline", lineanchors="line", anchorlinenos=True
            )
            name = file.relative_to(ROOT).as_posix()
            yield (
                page_of(file),
                {"title": name, "body": f'<div class="source"><h1>{name}</h1>{code}</div>'},
                "page.html",
            )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", link_to_pages, priority=400)  # before downloads are collected
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True}
