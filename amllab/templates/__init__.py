"""HTML of reports, from the templates in this folder.

It has no scripts and no style sheet, because notebooks and formgrader remove them. Pages may be light or dark, so only
marks and borders have a colour.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

MARKS = {"passed": "✓", "failed": "✗", "skipped": "–", "error": "!"}
# for symbols, not for text: no colour is dark enough for text on a light page and light enough on a dark one
COLOURS = {"passed": "#009e73", "failed": "#d55e00", "skipped": "#777777", "error": "#cc79a7"}


def render(template: str, **values: object) -> str:
    """Render a template of this folder."""
    return environment(__name__).get_template(template).render(values)


@cache
def environment(package: str) -> Environment:
    """Return an environment for the templates in a package: it escapes all values, and undefined names are errors."""
    # imported here because most processes of a grading make no HTML
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["code"] = code
    made.globals |= {"MARKS": MARKS, "COLOURS": COLOURS}
    return made


def code(text: str) -> Markup:
    """Escape text and format the parts in backticks as code."""
    from markupsafe import Markup, escape

    parts = str(escape(text)).split("`")
    return Markup("".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts)))
