"""Links to what docstrings document, from other docstrings and from Markdown."""

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


def find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> Any:
    """Link `Schedule.to_dict` to the one object whose name ends so; what is not ours stays code."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removeprefix("fused_warmup.")
    objects = env.domains.python_domain.objects
    found = [name for name in objects if name == target or name.endswith(f".{target}")]
    if len(found) != 1:
        return None
    entry = objects[found[0]]
    return make_refnode(
        app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, found[0]
    )


def add_anchors(app: Sphinx, env: BuildEnvironment) -> None:
    """Let ``[text](api/optimizer.md#fused_warmup.SGD)`` lead to the object, not its page."""
    for name, entry in env.domains.python_domain.objects.items():
        anchors = env.metadata[entry.docname].setdefault("myst_slugs", {})
        anchors[name] = (0, entry.node_id, name.rpartition(".")[2])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", find_by_last_name)
    app.connect("env-updated", add_anchors)
    return {"parallel_read_safe": True}
