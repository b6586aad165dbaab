"""Outputs and prose of a submission, made safe to open: capped, without active content, without the machine's paths.

What a student wrote or printed is opened by a person who is logged in to the grading machine: in formgrader, in the
feedback, in a notebook. Outputs are cleaned before they are stored. Markdown is stored as it was written, because a
HTML sanitiser would damage its code blocks; it is cleaned where it becomes HTML, by :func:`markdown2html`, which
:func:`autograder.configure` puts in the place of nbconvert's filter of this name, for formgrader and feedback alike.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import nh3
from jinja2 import pass_context
from nbformat import NotebookNode
from pygments.token import STANDARD_TYPES

MAX_OUTPUTS = 200  # of one cell
# of one markdown cell; beyond that it is shown as plain text: the parser's time grows with the square of the formulas
MAX_PROSE, MAX_FORMULAS = 100_000, 300
LEFT_OUT = "... further output left out ..."

_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8"}


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
# classes of highlighted code and of pandas' tables; those of the page around (bootstrap, formgrader) have functions
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
# words, numbers, colours; no minus sign before a number, which could move a box out of its cell, and no function
_RGB = re.compile(r"rgba?\([\d\s.,%/]+\)", re.I)
_STYLE_WORD = re.compile(r"#[0-9a-f]{3,8}|[a-z][a-z-]*|\d{0,4}\.?\d{1,4}(?:[a-z]+|%)?", re.I)
_LINK = re.compile(r"(?:https?://|mailto:)[^\s]+", re.I)
_DATA_URL = re.compile(r"data:(image/(?:png|jpeg|gif));base64,([A-Za-z0-9+/=\s]+)", re.I)
_LENGTH = re.compile(r"\d{1,4}%?|\d{0,3}\.\d+(?:px|em|%)?|\d{1,4}px")
_INLINE_PICTURE = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+")
_FORMULA = re.compile(r"\\begin\{|\\\\[(\[]")
# ids of a submission must not be those that the page around looks for
_ID = "nb-"
# TeX commands by which MathJax makes links, styles and ids, or loads code
_ACTIVE_TEX = re.compile(r"\\(?=(?:href|url|class|cssId|style|data|require|bbox|unicode|mmlToken|includegraphics)\b)")
# all but tab, line feed, carriage return, form feed, and escape, with which colours of a terminal begin
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_MARKUP = re.compile(r"[<>\"'`&\x00-\x1f\x7f]")
MOST_ALT, MOST_WIDTH = 2000, 2000  # characters; pixels


def clean_outputs(outputs: Iterable[Any], limit: int, hide: Mapping[str, str] | None = None) -> list[NotebookNode]:
    """Keeps text, tables and pictures of a cell's outputs, without active content; of metadata, what pictures show and how wide.

    Args:
        outputs: as in a notebook; what is no output is left out.
        limit: bytes kept in all.
        hide: paths to replace, see :func:`scrub`.
    """
    kept: list[NotebookNode] = []
    left = limit
    for output in outputs:
        try:
            clean = _clean_output(output, limit, hide or {})
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        size = _size(clean)
        if size > left or len(kept) >= MAX_OUTPUTS:
            kept += _cut(clean, left)
            kept.append(nbformat.v4.new_output("stream", name="stdout", text=f"{LEFT_OUT}\n"))
            break
        left -= size
        if kept and clean.output_type == kept[-1].output_type == "stream" and clean.name == kept[-1].name:
            kept[-1].text += clean.text
        else:
            kept.append(clean)
    for output in kept:
        if output.output_type == "stream":
            output.text = "\n".join(map(_as_shown, output.text.split("\n")))
    return kept


def clean_html(text: Any) -> str:
    """HTML with structure, tables, pictures and harmless styles; text stays, everything that can act goes."""
    cleaned = nh3.clean(
        str(text),
        tags=_TAGS,
        clean_content_tags=_GONE_WITH_CONTENT,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="noopener noreferrer nofollow",
    )
    return _without_active_tex(cleaned)


@pass_context
def markdown2html(context: Any, source: str) -> str:
    """Filter of nbconvert's templates: a markdown cell as clean HTML, whatever it holds.

    Args:
        context: of the template; the cell in it has the attachments.
        source: markdown with mathematics.
    """
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    cell = context.get("cell") or {}
    source = str(source)
    if len(without_pictures(source)) > MAX_PROSE or len(_FORMULA.findall(source)) > MAX_FORMULAS:
        return _as_plain(source)
    attachments = {name: bundle for name, bundle in (cell.get("attachments") or {}).items() if bundle}
    for name in re.findall(r"attachment:([^\s)\"'<>]*)", source):
        attachments.setdefault(name, {"image/png": ""})  # nbconvert stops at a picture that is missing
    renderer = IPythonRenderer(escape=False, attachments=attachments)
    try:
        rendered = MarkdownWithMath(renderer=renderer, plugins=_markdown_plugins()).render(source)
    except Exception:  # the parser fails in its own ways on some texts; a person must be able to read them all the same
        return _as_plain(source)
    return clean_html(rendered)


def picture(kind: str, value: Any) -> str:
    """A picture's base64 without line breaks.

    Raises:
        ValueError: it is no picture of this kind.
    """
    text = "".join(joined(value).split())
    try:
        head = base64.b64decode(text, validate=True)[:16]
    except binascii.Error:
        raise ValueError(f"no base64 of {kind}") from None
    if kind not in _MAGIC or not head.startswith(_MAGIC[kind]):
        raise ValueError(f"no {kind}")
    return text


def joined(value: Any) -> str:
    """Text of a notebook's field, which may be a list of lines, as it can be written in UTF-8.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if not isinstance(value, str):
        raise ValueError("no text")
    whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _CONTROL.sub("", whole)


def without_pictures(source: str, instead: str = "") -> str:
    """Markdown without the pictures that stand in it as data."""
    return _INLINE_PICTURE.sub(instead, source)


def scrub(text: str, replacements: Mapping[str, str]) -> str:
    """Replaces paths of the grading machine by neutral names.

    Args:
        text: as a student would see it.
        replacements: from paths to names; ``/*`` at the end of a path stands for one more part of it.

    >>> scrub('File "/home/ta/course/x.py"', {"/home/ta": "~", "/home/ta/course": "course"})
    'File "course/x.py"'
    """
    paths = sorted(replacements, key=len, reverse=True)
    if not paths or not any(path.removesuffix("*") in text for path in paths):
        return text
    names = {f"p{i}": replacements[path] for i, path in enumerate(paths)}
    parts = [f"(?P<p{i}>{_path_pattern(path)})" for i, path in enumerate(paths)]
    # a path begins at the start, behind something that is no part of a word, or behind a change of colour
    pattern = re.compile(rf"(^|[^\w]|\x1b\[[\d;]*m)(?:{'|'.join(parts)})(?![\w-])")
    return pattern.sub(lambda found: found[1] + names[str(found.lastgroup)], text)


def machine_paths(root: Path | None = None) -> dict[str, str]:
    """What :func:`scrub` replaces on this machine.

    Args:
        root: of the course.
    """
    import amllab

    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = sysconfig.get_paths()
    paths = {
        sys.base_prefix: "python",
        sys.prefix: "python",
        str(Path.home()): "~",
        places["stdlib"]: python,
        places["platstdlib"]: python,
        places["purelib"]: "site-packages",
        places["platlib"]: "site-packages",
        f"{tempfile.gettempdir()}/*": "scratch",
        str(Path(str(amllab.__file__)).parent): "amllab",
        str(Path(__file__).parent): "autograder",
    }
    if root is not None:
        paths[str(root)] = "course"
    paths |= {str(Path(path).resolve()): name for path, name in paths.items() if not path.endswith("*")}
    return {path: name for path, name in paths.items() if path not in ("", "/", "/usr")}


def _clean_output(output: Any, limit: int, hide: Mapping[str, str]) -> NotebookNode:
    def text(value: Any) -> str:
        return scrub(joined(value), hide)

    kind = output["output_type"]
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return nbformat.v4.new_output(kind, name=name, text=text(output["text"]))
    if kind == "error":
        lines = [text(line) for line in output["traceback"]]
        return nbformat.v4.new_output(kind, ename=text(output["ename"]), evalue=text(output["evalue"]), traceback=lines)
    cleaners = {
        "text/plain": text,
        "text/html": lambda value: clean_html(text(value)),
        "text/markdown": text,
        "text/latex": lambda value: _without_active_tex(text(value)),
        "image/png": lambda value: picture("image/png", value),
        "image/jpeg": lambda value: picture("image/jpeg", value),
    }
    data: dict[str, str] = {}
    for mime, value in output["data"].items():
        if mime not in cleaners:
            continue
        if mime != "text/plain" and len(value) > limit:  # not worth the work of cleaning it
            data.setdefault("text/plain", LEFT_OUT)
            continue
        try:
            data[mime] = cleaners[mime](value)
        except ValueError:
            continue
    if not data:
        raise KeyError("nothing to keep")
    metadata = {mime: kept for mime in data if (kept := _of_picture(output.get("metadata"), mime, hide))}
    return nbformat.v4.new_output("display_data", data=data, metadata=metadata)


def _of_picture(metadata: Any, mime: str, hide: Mapping[str, str]) -> dict[str, Any]:
    """A picture's text for those who do not see it, and its width: plain text, and a number."""
    told = metadata.get(mime) if isinstance(metadata, Mapping) and mime.startswith("image/") else None
    kept: dict[str, Any] = {}
    if isinstance(told, Mapping):
        if isinstance(told.get("alt"), str):
            # not every page that shows it escapes it
            kept["alt"] = _MARKUP.sub(" ", scrub(told["alt"], hide))[:MOST_ALT]
        if type(told.get("width")) is int and 0 < told["width"] <= MOST_WIDTH:
            kept["width"] = told["width"]
    return kept


def _as_shown(line: str) -> str:
    """What is left to see of a line that was written over, as progress bars are."""
    return line.rstrip("\r").rpartition("\r")[2]


def _size(output: NotebookNode) -> int:
    return len(json.dumps(output, ensure_ascii=False).encode())


def _cut(output: NotebookNode, left: int) -> list[NotebookNode]:
    """As much of an output's text as there is room for."""
    if output.output_type == "stream":
        text, name = output.text, output.name
    elif output.output_type == "error":
        text, name = "\n".join([*output.traceback, f"{output.ename}: {output.evalue}"]), "stderr"
    else:
        text, name = output.data.get("text/plain", ""), "stdout"
    text = text.encode()[: max(left - 100, 0)].decode(errors="ignore")
    return [nbformat.v4.new_output("stream", name=name, text=f"{text}\n")] if text else []


def _attribute(tag: str, name: str, value: str) -> str | None:
    """The value with which an attribute is kept, None where it goes."""
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


def _without_active_tex(text: str) -> str:
    return _ACTIVE_TEX.sub("\\\\\u200b", text)


def _as_plain(source: str) -> str:
    shown = without_pictures(source, "(picture)")[: 10 * MAX_PROSE]
    return f'<pre style="white-space:pre-wrap">{html.escape(shown)}</pre>'


def _markdown_plugins() -> list[Any]:
    from mistune.plugins import import_plugin

    # nbconvert's own but task lists, whose boxes are form fields: as text, they can be read
    return [import_plugin(name) for name in ("strikethrough", "table", "url", "def_list")]


def _path_pattern(path: str) -> str:
    if path.endswith("/*"):
        return re.escape(path[:-1]) + r"[^/\s'\":,;()\[\]<>\x1b]+"
    return re.escape(path)
