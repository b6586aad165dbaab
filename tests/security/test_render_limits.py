"""Texts that take parsers minutes: the pages and the grader show them as plain text."""

from __future__ import annotations

import base64
import copy
import json
import re
import struct
import time
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode

import autograder.notebooks.rendering as rendering
from amllab.lab import Lab
from autograder.grading.worker import Worker
from autograder.notebooks.normalize import normalize
from autograder.notebooks.rendering import clean_html, markdown2html
from autograder.notebooks.sanitize import MAX_OUTPUTS, clean_outputs
from autograder.sandbox.launcher import Launcher
from tests.conftest import sampled
from tests.security.test_pages import PAGES, rendered

ROOT = Path(__file__).resolve().parent.parent.parent
# without a limit each takes seconds to hours: the time grows at least with the square of the length
CODE = {
    "blank lines": " \n" * 6000,
    "one long sum": "x=" + "1+" * 90_000 + "1",
    "percent signs": "%%\n" * 60_000,
    "continued lines": "x \\\n" * 48_000,
}
HTML = {
    "nested": "".join(f"<b id={i}>" for i in range(4000)),
    "attributes": "<b " + " ".join(f"a{i}=1" for i in range(200_000)) + ">",
    "elements": "<b>x</b>" * 250_000,
    "tables": "<table><tr><td>" * 2000,
    "one formula": "<p>$" + "x+" * 100_000 + "$</p>",
}
MARKDOWN = {
    "a block of blank lines": "```python\n" + " \n" * 30_000 + "```",
    "nested elements": "<div>" * 10_000,
    "a formula": "$" + "x+" * 40_000 + "$",
    "many formulas": "$x$ " * 24_000,
    "an environment": "\\begin{align}" + "a&b\\\\" * 12_000 + "\\end{align}",
}
COLOURS = {
    "bold": "\x1b[1m" * 100_000 + "end",
    "parameters": "\x1b[" + "1;" * 500_000 + "m" + "end",
}


def page() -> dict[str, object]:
    """Return the context that a template passes to filters, one for each page."""
    return {"cell": {}, "resources": {}}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow each text a fifth of the time: each test waits until the time of its texts is up."""
    monkeypatch.setattr(rendering, "SECONDS", rendering.SECONDS / 5)


@pytest.fixture(params=sampled(PAGES, 2))
def exporter(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HTMLExporter:
    (tmp_path / "nbgrader_config.py").write_bytes((ROOT / "nbgrader_config.py").read_bytes())
    monkeypatch.chdir(tmp_path)
    return request.param(tmp_path)


@pytest.mark.usefixtures("short")
def test_render_page_of_slow_texts(exporter: HTMLExporter) -> None:
    """All slow texts are readable as plain text, and the cells between them look as usual."""
    notebook = nbformat.v4.new_notebook()
    for source in CODE.values():
        notebook.cells += [nbformat.v4.new_code_cell(source), nbformat.v4.new_code_cell("import torch  # as ever")]
    notebook.cells += [nbformat.v4.new_markdown_cell(source) for source in MARKDOWN.values()]
    pieces = [HTML[name] for name in ("nested", "tables", "one formula")]
    outputs = [nbformat.v4.new_output("display_data", data={"text/html": html}) for html in pieces]
    outputs += [nbformat.v4.new_output("stream", text=text) for text in COLOURS.values()]
    notebook.cells.append(nbformat.v4.new_code_cell("x", outputs=outputs))
    began = time.process_time()
    made = rendered(exporter, notebook)
    assert time.process_time() - began < 60  # the time of the other process is limited by the budget of the page
    soup = BeautifulSoup(made, "html.parser")
    text = soup.get_text()
    together = "".join(text.split())
    for source in [*CODE.values(), *MARKDOWN.values(), *pieces]:
        assert "".join(source[:300].split()) in together
    assert text.count("end") >= len(COLOURS)
    shown = [pre for pre in soup.select("div.highlight pre") if "as ever" in pre.get_text()]
    assert len(shown) == len(CODE)
    assert all(pre.select("span.kn") for pre in shown[:3])


@pytest.mark.parametrize("name", CODE)
@pytest.mark.usefixtures("short")
def test_highlight_time_limit(name: str) -> None:
    """Code that takes too long to highlight is shown as plain text."""
    shown = rendering.highlight_code(page(), CODE[name])
    assert "<span" not in shown.replace("<span></span>", "")
    assert BeautifulSoup(shown, "html.parser").get_text() == CODE[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", HTML)
@pytest.mark.usefixtures("short")
def test_clean_html_time_limit(name: str) -> None:
    """HTML that takes too long to clean becomes plain text, in the grader and on the page."""
    shown = clean_html(HTML[name])
    assert shown.startswith("<pre")
    output = {"output_type": "display_data", "data": {"text/html": HTML[name]}, "metadata": {}}
    (kept,) = clean_outputs([output], 5_000_000)
    assert set(kept.data) == {"text/plain"}
    output["data"] |= {"text/plain": "a table"}
    (kept,) = clean_outputs([output], 5_000_000)
    assert kept.data == {"text/plain": "a table"}


@pytest.mark.parametrize("name", MARKDOWN)
@pytest.mark.usefixtures("short")
def test_markdown_time_limit(name: str) -> None:
    """Markdown that takes too long to render is shown as plain text."""
    assert markdown2html(page(), MARKDOWN[name]).startswith("<pre")


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.usefixtures("short")
def test_ansi_time_limit(name: str) -> None:
    """Terminal colours are converted in limited time."""
    assert rendering.ansi2html(page(), COLOURS[name]) == "end"
    assert "<span" in rendering.ansi2html(page(), "\x1b[31mred\x1b[0m")


@pytest.mark.usefixtures("short")
def test_render_page_time_budget() -> None:
    """All texts of a page share one time budget."""
    context = {"cell": {}, "resources": {"rendering": rendering.Budget(seconds=0.7)}}
    slow = [f"{CODE['percent signs']}# {i}" for i in range(4)]
    began = time.process_time()
    for text in slow:
        assert "<span class" not in rendering.highlight_code(context, text)
    assert context["resources"]["rendering"].seconds <= 0
    assert "<span class" not in rendering.highlight_code(context, "import torch")
    assert "<span class" in rendering.highlight_code(page(), "import torch")
    assert time.process_time() - began < 5


def test_render_page_element_budget() -> None:
    """The number of elements of a page is limited."""
    context = {"cell": {}, "resources": {"rendering": rendering.Budget(tags=1000)}}
    assert not markdown2html(context, "*a* " * 500).startswith("<pre")
    assert markdown2html(context, "*a* " * 600).startswith("<pre")
    assert not markdown2html(context, "*a* " * 100).startswith("<pre")


def test_render_ordinary_text() -> None:
    """Ordinary tables, prose, code and tracebacks are rendered in full."""
    rows = "".join(f"<tr><th>{i}</th>" + "<td>0.123</td>" * 10 + "</tr>" for i in range(500))
    assert clean_html(f"<table>{rows}</table>").count("<td>") == 5000
    prose = (
        "**Bold**, $a = b$, $$\\sum_i x_i$$ and \\begin{align}a\\end{align}, `code`, [a link](https://x.org)\n\n" * 50
    )
    assert markdown2html(page(), prose).count("<strong>") == 50
    code = (ROOT / "autograder" / "notebooks" / "rendering.py").read_text()
    assert rendering.highlight_code(page(), code).count('class="k"') > 50
    assert rendering.highlight_code(page(), "") == rendering.highlight_code(page(), " ")
    trace = "\x1b[31mValueError\x1b[0m: \x1b[1mx\x1b[0m\n" * 300
    assert rendering.ansi2html(page(), trace).count("<span") == 600


@pytest.mark.usefixtures("short")
def test_normalize_slow_outputs(tmp_path: Path, release: NotebookNode) -> None:
    """The grader reads a notebook with slow outputs in limited time."""
    notebook = copy.deepcopy(release)
    outputs = [nbformat.v4.new_output("display_data", data={"text/html": html}) for html in HTML.values()]
    outputs += [nbformat.v4.new_output("stream", text=text) for text in COLOURS.values()]
    notebook.cells.append(nbformat.v4.new_code_cell("x", outputs=outputs, metadata={"tags": ["experiment"]}))
    (tmp_path / "transfer_learning.ipynb").write_text(json.dumps(notebook))
    began = time.process_time()
    kept = normalize(tmp_path / "transfer_learning.ipynb", release).notebook.cells[-1].outputs
    assert time.process_time() - began < 30
    assert [set(output.get("data", {"stream": ""})) for output in kept[:2]] == [{"text/plain"}] * 2
    assert not any("text/html" in output.get("data", {}) for output in kept)


def png(width: int, height: int) -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x06").decode()


def jpeg(width: int, height: int) -> str:
    head = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(9)
    return base64.b64encode(head + b"\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + bytes(20)).decode()


@pytest.mark.parametrize(("mime", "make"), [("image/png", png), ("image/jpeg", jpeg)])
def test_picture_size_limit(mime: str, make: object) -> None:
    """Pictures too large for browsers are dropped."""

    def kept(width: int, height: int) -> bool:
        data = {mime: make(width, height), "text/plain": "<Figure>"}  # type: ignore[operator]
        (output,) = clean_outputs([{"output_type": "display_data", "data": data, "metadata": {}}], 10**6)
        return mime in output.data

    assert kept(3000, 2000)
    assert not kept(60_000, 60_000)
    source = f"![x](data:{mime};base64,{make(60_000, 60_000)})"  # type: ignore[operator]
    assert "src=" not in markdown2html(page(), source)


def test_outputs_submitted_count_limit() -> None:
    """Consecutive prints are one output; of submitted outputs no more are examined than are kept."""
    prints = [{"output_type": "stream", "name": "stdout", "text": f"{i}\n"} for i in range(171_000)]
    began = time.process_time()
    (kept,) = clean_outputs(prints, 5_000_000)
    assert time.process_time() - began < 5
    assert kept.text == "".join(f"{i}\n" for i in range(171_000))
    for other in (
        [{"output_type": "display_data", "data": {"text/plain": "x"}, "metadata": {}}] * 171_000,
        [{"output_type": "display_data", "data": {"image/png": "no picture" * 50}, "metadata": {}}] * 171_000,
        [{"output_type": "stream", "name": name, "text": "x"} for _ in range(80_000) for name in ("stdout", "stderr")],
        [None] * 171_000,
    ):
        assert len(clean_outputs(other, 5_000_000)) <= MAX_OUTPUTS + 2
    assert time.process_time() - began < 10


@pytest.mark.slow
def test_outputs_worker_count_limit(lab: Lab) -> None:
    """Text printed piece by piece is one output; the number of other outputs is limited."""
    sources = [
        "import sys\nfor i in range(800):\n    print(i, flush=True)",
        "from IPython.display import display\nfor i in range(3000):\n    display(i)\nprint('unseen')",
        "from IPython.display import clear_output\nfor i in range(30):\n    print(i, flush=True); clear_output(wait=True)\n"
        "print('a', flush=True); print('b')",
        "import sys\nprint('a', flush=True); print('x', file=sys.stderr, flush=True); print('b', flush=True); print('c')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    launcher = Launcher()
    try:
        with Worker(lab, notebook, launcher=launcher):
            pass
    finally:
        launcher.close()
    prints, displays, cleared, both = (cell.outputs for cell in notebook.cells)
    assert [output["text"] for output in prints] == ["".join(f"{i}\n" for i in range(800))]
    assert 800 < len(displays) <= 2001  # a kernel drops messages that it publishes faster than they are read
    assert [output["text"] for output in cleared] == ["a\nb\n"]
    assert [output["text"] for output in both] == ["a\n", "x\n", "b\nc\n"]


def test_renderer_start_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renderer that cannot start raises an error."""
    helper = rendering._Helper()
    monkeypatch.setattr(rendering.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"):
        helper.ask("code", ("x",), 1.0)


def test_release_renders_completely(exporter: HTMLExporter, release: NotebookNode) -> None:
    """No text of the release is too slow to render."""
    assert not re.search(r'<pre style="white-space:pre-wrap">', rendered(exporter, release))
