"""Rendering and cleaning of students' texts within a time limit; texts that take longer are shown as plain text.

For some texts, the time of parsers for markdown, HTML, code and terminal colours grows with the square of the length. A
few kilobytes could keep the grader, ``nbgrader generate_feedback`` or formgrader's only thread busy for hours. Texts
that are slow in known ways are therefore recognised in advance. All others go to another process
(:mod:`autograder.notebooks.render_process`), which ends when a text takes too long. All texts of a page, or of a
submission that is cleaned, share one limit.

This module also has the filters with which :func:`autograder.configure` replaces those of nbconvert's templates.
"""

from __future__ import annotations

import atexit
import contextlib
import html
import logging
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import pass_context

from autograder.notebooks import safe_html
from autograder.notebooks.pictures import without_pictures
from autograder.notebooks.render_process import receive, send

log = logging.getLogger(__name__)

SECONDS = 2.0  # of CPU time, for one text
# of one markdown cell; beyond these it is shown as plain text: parsing time grows with the square of the formulas
MAX_PROSE, MAX_FORMULAS = 100_000, 300
MAX_FORMULA = 5_000  # characters of one formula, which the browser typesets
_MAX_DOLLARS = 2000  # dollar signs, which delimit formulas, in one text
_MAX_DEPTH = 500  # nested elements
_MAX_BLANKS = 300  # consecutive whitespace characters in code
_MAX_COPIED = 500_000_000  # bytes: nbconvert copies the rest of a text at each colour change
_AT_ONCE = 2_000  # characters of HTML that this process cleans itself: no text of this size is slow
_START_SECONDS, _REPLY_SECONDS = 120.0, 120.0  # waiting time, on a machine that others keep busy
_FORMULA = re.compile(r"\\begin\{|\\\\[(\[]")
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
# these elements need no end tag, and tables with thousands of rows may come without
_WITHOUT_END = frozenset(
    "area br col dd dt hr img input li meta option p source tbody td tfoot th thead tr wbr".split()  # noqa: SIM905
)


@dataclass
class Budget:
    """The remaining resources for the texts of one page, or of one submission.

    Attributes:
        seconds: CPU time.
        tags: HTML elements; each is parsed again on the way to the page.
    """

    seconds: float = 20.0
    tags: int = 200_000


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Share one budget among all texts that are cleaned in this context."""
    token = _budget.set(Budget())
    try:
        yield
    finally:
        _budget.reset(token)


def html_or_nothing(text: str) -> str | None:
    """Clean HTML as :func:`clean_html` does; return ``None`` if that takes too long."""
    budget = _budget.get() or Budget()
    if _nested(text) or long_formula(text):
        return None
    return _limited("html", budget, text)


def clean_html(text: Any) -> str:
    """Filter: clean HTML, or show it as plain text if cleaning takes too long.

    Text, structure, tables, pictures and harmless styles are kept; active content is removed.
    """
    return _or_plain(html_or_nothing(str(text)), str(text))


@pass_context
def clean_html_of_page(context: Any, text: Any) -> str:
    """Filter: clean HTML as :func:`clean_html` does, within the budget of the page."""
    with _of_page(context):
        return clean_html(text)


@pass_context
def markdown2html(context: Any, source: str) -> str:
    """Filter: convert a markdown cell to clean HTML, or show it as plain text if that takes too long.

    Args:
        context: of the template; its cell has the attachments.
        source: markdown with mathematics.
    """
    source = str(source)
    attachments = dict((context.get("cell") or {}).get("attachments") or {})
    words = without_pictures(source)
    if len(words) > MAX_PROSE or len(_FORMULA.findall(source)) > MAX_FORMULAS or long_formula(words) or _nested(words):
        return _as_plain(source)
    with _of_page(context):
        return _or_plain(_limited("markdown", _budget.get() or Budget(), source, attachments), source)


@pass_context
def tex_to_mathml(context: Any, text: Any) -> str:
    """Filter: convert an output with formulas to MathML, or show it as plain text if that takes too long."""
    text = str(text)
    if long_formula(text):
        return _as_plain(text)
    with _of_page(context):
        return _or_plain(_limited("latex", _budget.get() or Budget(), text), text)


@pass_context
def highlight_code(context: Any, source: str, language: str | None = None, metadata: Any = None) -> str:
    """Filter: highlight a code cell, or show it as plain text if that takes too long."""
    source = str(source)
    shown = None
    if not re.search(rf"\s{{{_MAX_BLANKS}}}", source):
        with _of_page(context):
            shown = _limited("code", _budget.get() or Budget(), source)
    return shown or f'<div class=" highlight hl-ipython3"><pre>{html.escape(source)}</pre></div>'


@pass_context
def ansi2html(context: Any, text: Any) -> str:
    """Filter: convert printed text to HTML, with the colours of a terminal unless that takes too long."""
    from nbconvert.filters import strip_ansi

    text = str(text)
    codes = text.count("\x1b")
    made = None if codes else html.escape(text)
    if 0 < codes * len(text) <= _MAX_COPIED:
        with _of_page(context):
            made = _limited("ansi", _budget.get() or Budget(), text)
    return html.escape(strip_ansi(text)) if made is None else made


@contextlib.contextmanager
def _of_page(context: Any) -> Iterator[None]:
    """Use the budget of the page that a template renders, which is stored in the template's resources."""
    resources = context.get("resources") if hasattr(context, "get") else None
    budget = resources.setdefault("rendering", Budget()) if isinstance(resources, dict) else Budget()
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


def _limited(kind: str, budget: Budget, text: str, *arguments: Mapping[str, Any]) -> str | None:
    """Process a text within the budget; return ``None`` if it exceeds the budget or the parser fails."""
    allowed = min(SECONDS, budget.seconds)
    if allowed <= 0:
        return None
    if kind == "html" and len(text) <= _AT_ONCE:
        began = time.process_time()
        made: str | None = safe_html.cleaned(text)
        budget.seconds -= time.process_time() - began
    else:
        made, seconds = _helper.ask(kind, (text, *arguments), allowed)
        budget.seconds -= seconds
    tags = made.count("<") // 2 if made else 0
    if made is None or tags > budget.tags:
        return None
    budget.tags -= tags
    return made


def _nested(text: str) -> bool:
    """Return whether elements are nested so deeply that parsers and browsers become slow."""
    depth = 0
    for end, name in _TAG.findall(text):
        if name.lower() not in _WITHOUT_END:
            depth = max(depth - 1, 0) if end else depth + 1
            if depth > _MAX_DEPTH:
                return True
    return False


def long_formula(text: str) -> bool:
    """Return whether the browser would have to typeset more or longer formulas than a person writes."""
    if text.count("$") > _MAX_DOLLARS:
        return True
    inline = any(len(part) > MAX_FORMULA and "\n\n" not in part for part in text.split("$")[1:-1])
    blocks = re.findall(r"\\(?:begin\{|\\?\[|\\?\()", text)
    return inline or (bool(blocks) and len(text) > 4 * MAX_FORMULA and _longest_block(text) > MAX_FORMULA)


def _longest_block(text: str) -> int:
    """Return the length of the longest part between delimiters of formulas, in characters."""
    return max(map(len, re.split(r"\\(?:begin\{|end\{|\\?[\[\]()])", text)[1:-1]), default=0)


def _or_plain(made: str | None, source: str) -> str:
    return _as_plain(source) if made is None else made


def _as_plain(source: str) -> str:
    shown = without_pictures(source, "(picture)")[: 10 * MAX_PROSE]
    return f'<pre style="white-space:pre-wrap">{html.escape(shown)}</pre>'


class _Helper:
    """The rendering process, which is started on first use and again after it was ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, kind: str, arguments: tuple[Any, ...], seconds: float) -> tuple[str | None, float]:
        """Send a text to the process.

        Returns:
            The result, ``None`` if the text exceeded the limit or the parser failed; and the CPU time in seconds.
        """
        with self._lock:
            if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
                self._start()
            assert self._process is not None
            reply = self._exchange({"kind": kind, "arguments": arguments, "seconds": seconds})
            if reply is None:
                log.warning(
                    "A text of kind %s takes more than %.1f s to render: it is shown as plain text", kind, seconds
                )
                self._end()
                return None, seconds
            return reply.get("html"), float(reply["seconds"])

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, message)
        except OSError:
            return None
        return self._reply(_REPLY_SECONDS)

    def _reply(self, seconds: float) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], seconds)[0]
        return receive(self._process.stdout) if ready else None

    def _start(self) -> None:
        self._owner = os.getpid()
        packages = os.pathsep.join([str(Path(__file__).parent.parent.parent), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "autograder.notebooks.render_process"],
            env={**os.environ, "PYTHONPATH": packages.rstrip(os.pathsep)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a keyboard interrupt is for the command only
        )
        if self._reply(_START_SECONDS) is None:
            self._end()
            raise RuntimeError("the process that renders pages did not start: see the message above")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()


_helper = _Helper()
atexit.register(_helper.close)
