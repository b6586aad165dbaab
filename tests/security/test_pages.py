"""What a submission shows is safe to open in formgrader and in the feedback."""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import InvalidNotebook
from nbformat import NotebookNode
from nbgrader.apps import NbGrader
from nbgrader.converters import GenerateFeedback
from nbgrader.server_extensions.formgrader.formgrader import FormgradeExtension

from amllab.checks.render import to_html
from amllab.checks.results import CheckResult
from amllab.protocol.failure import Failure
from autograder.notebooks.normalize import normalize
from autograder.notebooks.sanitize import clean_outputs
from tests.conftest import ROOT
from tests.helpers.hostile_html import ACT, HOSTILE_HTML, HOSTILE_MARKDOWN, PNG, active

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def hostile(release: NotebookNode) -> NotebookNode:
    """Return the release with an attack in every place that people look at."""
    notebook = copy.deepcopy(release)
    (answer,) = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "reflection"]
    answer.source = "\n\n".join([HOSTILE_HTML[0], HOSTILE_HTML[1], HOSTILE_MARKDOWN[0]])
    svg = base64.b64encode(f"<svg xmlns='http://www.w3.org/2000/svg' onload='{ACT}'/>".encode()).decode()
    for source in HOSTILE_HTML + HOSTILE_MARKDOWN:
        cell = nbformat.v4.new_markdown_cell(source)
        cell.attachments = {"evil.svg": {"image/svg+xml": svg, "text/html": ACT}, "none.png": {}}
        notebook.cells.append(cell)
    outputs = [{"output_type": "display_data", "metadata": {}, "data": {"text/html": html}} for html in HOSTILE_HTML]
    for kind in ("application/javascript", "image/svg+xml", "text/markdown", "text/latex", "text/vnd.mermaid"):
        data = {kind: f"<script>{ACT}</script> <svg onload={ACT}>", "text/plain": "<script>1</script> text-60"}
        outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    broken = {"image/png": f'AA" onerror="{ACT}', "text/plain": "text-61"}
    outputs.append({"output_type": "display_data", "metadata": {"filenames": {"image/png": "/x"}}, "data": broken})
    shown = {"image/png": {"alt": f'"><script>{ACT}</script><img src=x onerror="{ACT}', "width": f'1" onload="{ACT}'}}
    outputs.append({"output_type": "display_data", "metadata": shown, "data": {"image/png": PNG}})
    outputs.append(
        {"output_type": "stream", "name": "stdout", "text": f"\x1b[31m<script>{ACT}</script>\x1b[0m text-62"}
    )
    line = f"\x1b[0;31m<img src=x onerror={ACT}> text-63"
    outputs.append({"output_type": "error", "ename": "<b>", "evalue": "<script>", "traceback": [line]})
    source = f"# <script>{ACT}</script> text-64"
    code = nbformat.v4.new_code_cell(source, metadata={"tags": ["experiment", f'"><img src=x onerror={ACT}>']})
    code.outputs = [nbformat.from_dict(output) for output in outputs]
    notebook.cells.append(code)
    notebook.metadata.title = f"</title><script>{ACT}</script>"
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"x": "</script><script>1"}}
    return notebook


def formgrader(course: Path) -> HTMLExporter:
    """Return the exporter of formgrader, as it starts in a course's folder."""
    extension = FormgradeExtension()
    extension.root_dir = str(course)
    extension.initialize([])
    app = SimpleNamespace(settings={})
    extension.init_tornado_settings(app)
    return app.settings["nbgrader_exporter"]


def feedback(course: Path) -> HTMLExporter:
    """Return the exporter of ``nbgrader generate_feedback``, as it starts in a course's folder."""
    command = NbGrader()
    command.initialize([])
    converter = GenerateFeedback(config=command.config)
    return converter.exporter_class(config=converter.config)


PAGES = [formgrader, feedback]


@pytest.fixture(params=PAGES)
def exporter(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HTMLExporter:
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return request.param(tmp_path)


def rendered(exporter: HTMLExporter, notebook: NotebookNode) -> str:
    nbgrader = {"notebook": "transfer_learning", "score": 0, "max_score": 100, "late_penalty": 0}
    resources = {"nbgrader": nbgrader, "base_url": "", "index": 0, "total": 1, "notebook_id": "transfer_learning"}
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.score = 0  # as the gradebook would have it
    return exporter.from_notebook_node(notebook, resources=resources)[0]


@pytest.fixture
def repaired(tmp_path: Path, release: NotebookNode) -> NotebookNode:
    (tmp_path / "x.ipynb").write_text(json.dumps(hostile(release)))
    return normalize(tmp_path / "x.ipynb", release).notebook


def test_pages_no_active_content(exporter: HTMLExporter, repaired: NotebookNode, release: NotebookNode) -> None:
    """Nothing of a submission is active in formgrader or feedback, and its text stays readable."""
    page = rendered(exporter, repaired)
    assert active(page) - active(rendered(exporter, release)) == Counter()
    assert not re.search(r"\\(href|style|class|cssId|require)\b", page)
    text = BeautifulSoup(page, "html.parser").get_text()
    hidden = {14, 15, 20}  # text in comments, or after an element that swallows the rest
    numbers = {int(n) for n in re.findall(r"text-(\d+)", text)}
    expected = {*range(len(HOSTILE_HTML)), *range(40, 40 + len(HOSTILE_MARKDOWN)), *range(60, 65)}
    assert expected - numbers <= hidden


def test_pages_safe_without_cleaning(exporter: HTMLExporter, release: NotebookNode) -> None:
    """Pages are safe even if the notebook was never cleaned."""
    notebook = hostile(release)
    notebook.metadata = release.metadata
    del notebook.cells[-1].outputs[-9:]  # not HTML: types that nbconvert itself ignores or escapes
    notebook.cells[-1].metadata = NotebookNode()
    page = rendered(exporter, notebook)
    assert active(page) - active(rendered(exporter, release)) == Counter()


@pytest.mark.parametrize("make", PAGES)
def test_pages_stock_unsafe(
    make: Callable[[Path], HTMLExporter],
    repaired: NotebookNode,
    release: NotebookNode,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With nbgrader's stock pages the same notebook is active: the attacks are real."""
    (tmp_path / "stock").mkdir()
    monkeypatch.chdir(tmp_path / "stock")
    exporter = make(tmp_path / "stock")
    with pytest.raises(InvalidNotebook, match="missing attachment"):
        rendered(exporter, repaired)
    repaired.cells = [cell for cell in repaired.cells if "attachment:" not in cell.source]
    found = active(rendered(exporter, repaired)) - active(rendered(exporter, release))
    assert any(what.startswith("script") and "PWNED" in what for what in found)
    assert any("onerror" in what for what in found)


def dom(page: str, folder: Path) -> str:
    (folder / "page.html").write_text(page)
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --virtual-time-budget=3000 --dump-dom"
    command = [str(CHROMIUM), *flags.split(), f"--user-data-dir={folder}/profile", f"file://{folder}/page.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "</html>" in done.stdout, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the pages in")
def test_pages_in_chromium(exporter: HTMLExporter, repaired: NotebookNode, tmp_path: Path) -> None:
    """Chromium runs nothing of a submission."""

    def title(page: str) -> str:
        # external libraries are not part of the submission, and the browser would wait for them
        page = re.sub(r'<script[^>]* src="https?://[^>]*></script>', "", page)
        return str(BeautifulSoup(dom(page, tmp_path), "html.parser").title)

    # without the second line of defence, the policy of the page, which would stop any script
    page = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", rendered(exporter, repaired))
    assert "PWNED" not in title(page)
    assert "PWNED" in title(page.replace("text-1<", f"<img src=x onerror={ACT}><"))


def test_check_report_unchanged_in_pages(exporter: HTMLExporter, release: NotebookNode) -> None:
    """Reports of checks keep their text and styles in pages."""
    failure = Failure("`a < b`", "1 & 2", "because", "the loop")
    results = [
        CheckResult("one", "Works in `place`", "c", 5, "passed"),
        CheckResult("two", "Is *right*", "c", 5, "failed", failure),
    ]
    report = to_html(results, note="seed 5")
    styles = [element["style"] for element in BeautifulSoup(report, "html.parser").find_all(style=True)]
    cell = nbformat.v4.new_code_cell("check()")
    cell.outputs = [nbformat.v4.new_output("display_data", data={"text/html": report})]
    page = rendered(exporter, nbformat.v4.new_notebook(cells=[cell]))
    panel = BeautifulSoup(page, "html.parser").select_one('div[style^="border-left"]')
    assert panel is not None
    assert [element["style"] for element in [panel, *panel.find_all(style=True)]] == styles
    assert panel.get_text() == BeautifulSoup(report, "html.parser").get_text()


def test_release_rendering_intact(exporter: HTMLExporter, release: NotebookNode) -> None:
    """Tables, code and links of the release are rendered as without cleaning."""
    page = BeautifulSoup(rendered(exporter, release), "html.parser")
    assert page.select_one("details > summary > b") is not None
    assert len(page.find_all("table")) >= 4
    assert page.select_one("div.highlight span.k") is not None
    ids = {element["id"] for element in page.find_all(id=True)}
    targets = {a["href"][1:] for a in page.select('a[href^="#nb-exercise"]')}
    assert targets
    assert targets <= ids


def test_picture_keeps_alt_and_width(exporter: HTMLExporter) -> None:
    """Pictures keep their text description and width."""
    told = {"alt": 'Curves: 3 < 4 & "5"', "width": 640, "needs_background": "light", "onload": "x"}
    output = {"output_type": "display_data", "data": {"image/png": PNG}, "metadata": {"image/png": told, "tags": [1]}}
    (clean,) = clean_outputs([output], 10**6)
    assert clean.metadata == {"image/png": {"alt": "Curves: 3   4    5 ", "width": 640}}
    page = rendered(exporter, nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[clean])]))
    assert re.search(r'<img[^>]*alt="Curves: 3 {3}4 {4}5 "', page)
