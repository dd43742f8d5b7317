"""How Sphinx builds this site: `make docs`. Nothing is fetched, at build time or in the browser."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / "_extensions")]

import sources  # noqa: E402

import fused_warmup  # noqa: E402

project = "fused_warmup"
author = copyright = "fused_warmup authors"
version = release = fused_warmup.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.linkcode",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstrings",
    "gallery",
    "mathml",
    "sources",
]
exclude_patterns = ["_extensions", "_inventories"]
linkcode_resolve = sources.source_of

# What is linked at other projects, listed here in small: their own lists would be fetched.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", "_inventories/python.txt"),
    "torch": ("https://docs.pytorch.org/docs/stable/", "_inventories/torch.txt"),
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_heading_anchors = 3  # the anchors that GitHub gives headings too
myst_enable_extensions = ["colon_fence"]

# Docstrings name what they refer to in single backticks.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "fused_warmup"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
