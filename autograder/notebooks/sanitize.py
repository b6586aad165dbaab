"""Sanitizing of a submission's outputs and prose: limit their size, remove active content and the machine's paths.

People who are logged in to the grading machine open what students wrote or printed: in formgrader, in the feedback, in
a notebook. Outputs are cleaned before they are stored. Markdown is stored as written, because an HTML sanitizer would
damage its code blocks; it is cleaned during its conversion to HTML, by
:func:`autograder.notebooks.rendering.markdown2html`, which :func:`autograder.configure` installs in place of
nbconvert's filter of the same name, for both formgrader and the feedback.
"""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from amllab.matching import joined
from autograder.notebooks.pictures import picture
from autograder.notebooks.rendering import html_or_nothing, long_formula
from autograder.notebooks.safe_html import without_active_tex

MAX_OUTPUTS, MOST_LOOKED_AT = 200, 2000  # of one cell: outputs to keep, and outputs to inspect
SCRATCH = "/tmp"  # working directory of isolated submissions
LEFT_OUT = "... further output left out ..."

_MARKUP = re.compile(r"[<>\"'`&\x00-\x1f\x7f]")
MOST_ALT, MOST_WIDTH = 2000, 2000  # characters of a picture's alternative text; pixels


def clean_outputs(outputs: Iterable[Any], limit: int, hide: Mapping[str, str] | None = None) -> list[NotebookNode]:
    """Return the text, tables and pictures of a cell's outputs, without active content.

    The only metadata kept are the alternative texts and widths of pictures.

    Args:
        outputs: as in a notebook; entries that are not outputs are left out.
        limit: bytes to keep in total.
        hide: paths to replace; see :func:`scrub`.
    """
    kept: list[NotebookNode] = []
    left = limit
    for output in _joined_streams(outputs, limit):
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
        kept.append(clean)
    for output in kept:
        if output.output_type == "stream":
            output.text = "\n".join(map(_as_shown, output.text.split("\n")))
    return kept


def _joined_streams(outputs: Iterable[Any], limit: int) -> Iterator[Any]:
    """Yield the outputs with consecutive ones on the same stream joined: each print of a cell may be its own output.

    Yields at most ``MOST_LOOKED_AT`` outputs. A joined stream has not much more than ``limit`` characters.
    """
    name, parts, size, looked_at = "", [], 0, 0
    for output in outputs:
        stream = _stream(output)
        if stream is not None and stream[0] == name and size <= limit:
            parts.append(stream[1])
            size += len(stream[1])
            continue
        if parts:
            yield {"output_type": "stream", "name": name, "text": "".join(parts)}
        looked_at += 1
        if looked_at > MOST_LOOKED_AT:
            return
        name, parts, size = (stream[0], [stream[1]], len(stream[1])) if stream is not None else ("", [], 0)
        if stream is None:
            yield output
    if parts:
        yield {"output_type": "stream", "name": name, "text": "".join(parts)}


def _stream(output: Any) -> tuple[str, str] | None:
    """Return the name and text of a stream output, or ``None`` for any other output."""
    if not isinstance(output, Mapping) or output.get("output_type") != "stream":
        return None
    try:
        return ("stderr" if output.get("name") == "stderr" else "stdout"), joined(output.get("text"))
    except ValueError:
        return None


def scrub(text: str, replacements: Mapping[str, str]) -> str:
    """Replace paths of the grading machine with neutral names.

    Args:
        text: as a student would see it.
        replacements: a name for each path; ``/*`` at the end of a path matches one more component.

    >>> scrub('File "/home/ta/course/x.py"', {"/home/ta": "~", "/home/ta/course": "course"})
    'File "course/x.py"'
    """
    paths = sorted(replacements, key=len, reverse=True)
    if not paths or not any(path.removesuffix("*") in text for path in paths):
        return text
    names = {f"p{i}": replacements[path] for i, path in enumerate(paths)}
    parts = [f"(?P<p{i}>{_path_pattern(path)})" for i, path in enumerate(paths)]
    # a path begins at the start, after a character that is not part of a word, or after a colour change
    pattern = re.compile(rf"(^|[^\w]|\x1b\[[\d;]*m)(?:{'|'.join(parts)})(?![\w-])")
    return pattern.sub(lambda found: found[1] + names[str(found.lastgroup)], text)


def machine_paths(root: Path | None = None) -> dict[str, str]:
    """Return the paths of this machine and the names with which :func:`scrub` replaces them.

    Args:
        root: the course's folder.
    """
    import amllab

    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = sysconfig.get_paths()
    paths = {
        sys.base_prefix: "python",
        sys.prefix: "python",
        os.path.expanduser("~"): "~",  # stays "~" if there is no home folder
        places["stdlib"]: python,
        places["platstdlib"]: python,
        places["purelib"]: "site-packages",
        places["platlib"]: "site-packages",
        f"{tempfile.gettempdir()}/*": "scratch",
        str(Path(str(amllab.__file__)).parent): "amllab",
        str(Path(__file__).parent.parent): "autograder",
    }
    if root is not None:
        paths[str(root)] = "course"
    paths |= {str(Path(path).resolve()): name for path, name in paths.items() if not path.endswith("*")}
    paths = {path: name for path, name in paths.items() if path not in ("", "~", "/", "/usr")}
    return {written: name for path, name in paths.items() for written in (path, *_relative(path))}


def _relative(path: str) -> Iterator[str]:
    """Yield how programs such as pip write a path relative to the scratch folder, which is also a submission's home."""
    if path.endswith("*"):
        return
    yield from (f"../{path.lstrip('/')}", f"../../{path.lstrip('/')}")
    for scratch in {SCRATCH, tempfile.gettempdir()}:
        if path.startswith(f"{scratch}/"):
            inner = path.removeprefix(f"{scratch}/")
            yield from (f"./{inner}", f"~/{inner}", f"../{inner}", *([inner] if "/" in inner else []))


def _clean_output(output: Any, limit: int, hide: Mapping[str, str]) -> NotebookNode:
    def text(value: Any) -> str:
        return scrub(joined(value), hide)

    kind = output["output_type"]
    made: NotebookNode
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        made = nbformat.v4.new_output(kind, name=name, text=text(output["text"]))
        return made
    if kind == "error":
        lines = [text(line) for line in output["traceback"]]
        made = nbformat.v4.new_output(kind, ename=text(output["ename"]), evalue=text(output["evalue"]), traceback=lines)
        return made
    cleaners: dict[str, Callable[[Any], str | None]] = {
        "text/plain": text,
        "text/html": lambda value: html_or_nothing(text(value)),
        "text/markdown": text,
        "text/latex": lambda value: None if long_formula(text(value)) else without_active_tex(text(value)),
        "image/png": lambda value: picture("image/png", value),
        "image/jpeg": lambda value: picture("image/jpeg", value),
    }
    data: dict[str, str] = {}
    too_slow = ""
    for mime, value in output["data"].items():
        if mime not in cleaners:
            continue
        if mime != "text/plain" and len(value) > limit:  # too large to be worth cleaning
            data.setdefault("text/plain", LEFT_OUT)
            continue
        try:
            clean = cleaners[mime](value)
        except ValueError:
            continue
        if clean is None:
            too_slow = text(value)
        else:
            data[mime] = clean
    if too_slow:
        data.setdefault("text/plain", too_slow)
    if not data:
        raise KeyError("nothing to keep")
    metadata = {mime: kept for mime in data if (kept := _of_picture(output.get("metadata"), mime, hide))}
    made = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
    return made


def _of_picture(metadata: Any, mime: str, hide: Mapping[str, str]) -> dict[str, Any]:
    """Return a picture's alternative text, as plain text, and its width, as a number."""
    told = metadata.get(mime) if isinstance(metadata, Mapping) and mime.startswith("image/") else None
    kept: dict[str, Any] = {}
    if isinstance(told, Mapping):
        if isinstance(told.get("alt"), str):
            # not every page that shows the text escapes it
            kept["alt"] = _MARKUP.sub(" ", scrub(told["alt"], hide))[:MOST_ALT]
        if type(told.get("width")) is int and 0 < told["width"] <= MOST_WIDTH:
            kept["width"] = told["width"]
    return kept


def _as_shown(line: str) -> str:
    """Return the visible part of a line that carriage returns overwrite, as progress bars do."""
    return line.rstrip("\r").rpartition("\r")[2]


def _size(output: NotebookNode) -> int:
    return len(json.dumps(output, ensure_ascii=False).encode())


def _cut(output: NotebookNode, left: int) -> list[NotebookNode]:
    """Return as much of an output's text as fits into the remaining bytes, as a stream."""
    if output.output_type == "stream":
        text, name = output.text, output.name
    elif output.output_type == "error":
        text, name = "\n".join([*output.traceback, f"{output.ename}: {output.evalue}"]), "stderr"
    else:
        text, name = output.data.get("text/plain", ""), "stdout"
    text = text.encode()[: max(left - 100, 0)].decode(errors="ignore")
    return [nbformat.v4.new_output("stream", name=name, text=f"{text}\n")] if text else []


def _path_pattern(path: str) -> str:
    if path.endswith("/*"):
        return re.escape(path[:-1]) + r"[^/\s'\":,;()\[\]<>\x1b]+"
    return re.escape(path)
