"""HTML of students' texts without active content: from HTML, markdown, printed text and code.

These functions can take minutes for some texts. Call them through :mod:`autograder.notebooks.rendering`, which stops
them in time.
"""

from __future__ import annotations

import re
from typing import Any

import nh3
from pygments.token import STANDARD_TYPES

from autograder.notebooks.formulas import Formulas, in_text
from autograder.notebooks.pictures import picture


def _words(text: str) -> set[str]:
    return set(text.split())


_TAGS = _words(
    """
    a abbr b blockquote br caption center cite code col colgroup dd del details dfn div dl dt em figcaption figure
    font h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp small span strong sub summary sup table tbody
    td tfoot th thead tr tt u ul var
    """
)
_GONE_WITH_CONTENT = {"script", "style", "svg", "iframe", "object", "noscript", "template"}
_ATTRIBUTES = {
    "*": {"class", "id", "style", "title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan", "align"},
    "th": {"colspan", "rowspan", "align"},
    "col": {"span"},
    "colgroup": {"span"},
    "table": {"border"},
    "ol": {"start"},
    "details": {"open"},
    "font": {"color"},
}
# classes of highlighted code and of pandas tables; those of the surrounding page (Bootstrap, formgrader) have effects
_CLASSES = {"highlight", "dataframe", "anchor-link", *STANDARD_TYPES.values()} - {""}
_STYLES = _words(
    """
    background background-color border border-bottom border-collapse border-color border-left border-radius
    border-right border-spacing border-style border-top border-width color font-family font-size font-style
    font-weight height line-height list-style-type margin margin-bottom margin-left margin-right margin-top
    max-height max-width min-width opacity overflow-x padding padding-bottom padding-left padding-right padding-top
    text-align text-decoration vertical-align white-space width
    """
)
# words, numbers, colours; no minus sign before a number, which could move a box out of its cell, and no functions
_RGB = re.compile(r"rgba?\([\d\s.,%/]+\)", re.I)
_STYLE_WORD = re.compile(r"#[0-9a-f]{3,8}|[a-z][a-z-]*|\d{0,4}\.?\d{1,4}(?:[a-z]+|%)?", re.I)
_LINK = re.compile(r"(?:https?://|mailto:)[^\s]+", re.I)
_DATA_URL = re.compile(r"data:(image/(?:png|jpeg|gif));base64,([A-Za-z0-9+/=\s]+)", re.I)
_LENGTH = re.compile(r"\d{1,4}%?|\d{0,3}\.\d+(?:px|em|%)?|\d{1,4}px")
# ids of a submission must not collide with those that the surrounding page looks up
_ID = "nb-"
# TeX commands with which MathJax makes links, styles and ids, or loads code
_ACTIVE_TEX = re.compile(r"\\(?=(?:href|url|class|cssId|style|data|require|bbox|unicode|mmlToken|includegraphics)\b)")


# code, where dollars are dollars; and formulas of several lines, which markdown could take for the start of a list
_CODE_OR_FORMULA = re.compile(
    r"(?P<code>^ {0,3}(?P<fence>`{3,}|~{3,}).*?(?:^ {0,3}(?P=fence)|\Z)|(?P<ticks>`+)[^`]+?(?P=ticks)|\$\$.*?\$\$)"
    r"|(?<![\\$])\$(?=\S)(?P<formula>[^$`]{1,1000}?)(?<=[^\s\\])\$(?![\d$])",
    re.M | re.S,
)


def cleaned(text: str) -> str:
    """Clean HTML: keep text, structure, tables, pictures and harmless styles, and remove active content."""
    clean = nh3.clean(
        text,
        tags=_TAGS,
        clean_content_tags=_GONE_WITH_CONTENT,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="noopener noreferrer nofollow",
    )
    return without_active_tex(clean)


def from_markdown(source: str, attachments: dict[str, dict[str, str]]) -> str:
    """Convert a markdown cell to clean HTML, with its formulas as MathML."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    formulas = Formulas()

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return formulas.placeholder(body, block=True)

        def inline_math(self, body: str) -> str:
            return formulas.placeholder(body)

        def latex_environment(self, name: str, body: str) -> str:
            return formulas.placeholder(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

    shown = {name: bundle for name, bundle in attachments.items() if bundle}
    for name in re.findall(r"attachment:([^\s)\"'<>]*)", source):
        shown.setdefault(name, {"image/png": ""})  # nbconvert fails on a missing picture
    renderer = Renderer(escape=False, attachments=shown)
    source = _CODE_OR_FORMULA.sub(_on_one_line, source)
    clean = cleaned(MarkdownWithMath(renderer=renderer, plugins=_markdown_plugins()).render(source))
    return without_active_tex(formulas.put_into(clean))


def from_latex(text: str) -> str:
    """Convert a text with formulas to clean HTML."""
    return without_active_tex(in_text(text))


def _on_one_line(found: re.Match[str]) -> str:
    """Return a formula on one line; code and paragraphs stay as they are."""
    if found["formula"] is None or re.search(r"\n\s*\n", found[0]):
        return found[0]
    return found[0].replace("\n", " ")


def coloured(text: str) -> str:
    """Convert printed text to HTML, with the colours of a terminal."""
    from nbconvert.filters import ansi2html

    return str(ansi2html(text))


def highlighted(source: str) -> str:
    """Convert Python code to HTML with syntax highlighting."""
    from nbconvert.filters.highlight import Highlight2HTML

    return str(Highlight2HTML()(source))


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Return the safe value of an attribute, or ``None`` to remove the attribute."""
    value = value.strip()
    if name == "style":
        return _style(value)
    if name == "class":
        return " ".join(word for word in value.split() if word in _CLASSES) or None
    if name == "id":
        return value if value.startswith(_ID) else _ID + value
    if name == "href":
        if value.startswith("#"):
            return value if value.startswith(f"#{_ID}") else f"#{_ID}{value[1:]}"
        return value if _LINK.fullmatch(value) else None
    if name == "src":
        return _embedded_picture(value)
    if name in ("width", "height", "border", "span", "colspan", "rowspan", "start"):
        return value if _LENGTH.fullmatch(value) else None
    return value


def _style(value: str) -> str | None:
    kept = []
    for declaration in value.split(";"):
        key, _, what = (part.strip() for part in declaration.partition(":"))
        words = _RGB.sub("", what).replace(",", " ").split()
        if key.lower() in _STYLES and what and all(map(_STYLE_WORD.fullmatch, words)):
            kept.append(f"{key.lower()}:{what}")
    return ";".join(kept) or None


def _embedded_picture(value: str) -> str | None:
    found = _DATA_URL.fullmatch(value)
    try:
        return f"data:{found[1].lower()};base64,{picture(found[1].lower(), found[2])}" if found else None
    except ValueError:
        return None


def without_active_tex(text: str) -> str:
    """Disable the TeX commands that make links, styles and ids, or load code."""
    return _ACTIVE_TEX.sub("\\\\\u200b", text)


def _markdown_plugins() -> list[Any]:
    from mistune.plugins import import_plugin

    # nbconvert's plugins except task lists, whose boxes are form fields: as text, they remain readable
    return [import_plugin(name) for name in ("strikethrough", "table", "url", "def_list")]
