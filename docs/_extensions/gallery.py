"""The directive ``{schedule}``: an expression of builders, shown as code and drawn as a curve."""

from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from plot_schedules import inline_svg, schedule_of
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class DrawnSchedule(SphinxDirective):
    """Draws the schedule that its content makes, over ``:steps:`` (1000), a factor ``:of:`` lr."""

    has_content = True
    option_spec = {  # noqa: RUF012  # docutils' own interface
        "steps": directives.nonnegative_int,
        "of": directives.unchanged,
    }

    def run(self) -> list[Any]:
        expression = "\n".join(self.content)
        code = nodes.literal_block(expression, expression, language="python")
        steps, of = self.options.get("steps", 1000), self.options.get("of", "lr")
        picture = inline_svg(schedule_of(expression), steps, expression, of)
        return [code, nodes.raw("", picture, format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("schedule", DrawnSchedule)
    return {"parallel_read_safe": True}
