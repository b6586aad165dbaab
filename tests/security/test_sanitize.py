"""What a submission shows is safe to open in formgrader and in the feedback."""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
import subprocess
import sys
import time
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

import amllab
from amllab.checks.render import to_html
from amllab.checks.results import CheckResult
from amllab.protocol.failure import Failure
from autograder.notebooks.normalize import normalize
from autograder.notebooks.sanitize import (
    clean_html,
    clean_outputs,
    joined,
    machine_paths,
    markdown2html,
    picture,
    scrub,
)
from tests.conftest import ROOT

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 30).decode()
ACT = "document.title='PWNED'"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# each has a text that must stay readable, and acts as soon as it is opened, pointed at or clicked
HOSTILE_HTML = [
    f"<script>{ACT}</script>text-0",
    f'<img src="x" onerror="{ACT}">text-1',
    f'<svg onload="{ACT}"><script>{ACT}</script></svg>text-2',
    '<a href="javascript:alert(1)">text-3</a>',
    '<a href=" jAvA&#x09;script:alert(1)">text-4</a>',
    '<a href="data:text/html;base64,PHNjcmlwdD4=">text-5</a>',
    f'<iframe srcdoc="<script>parent.{ACT}</script>"></iframe>text-6',
    '<meta http-equiv="refresh" content="0;url=https://example.org/">text-7',
    '<base href="https://example.org/">text-8',
    '<div style="position:fixed;top:0;left:0;width:100%;height:100%;background:url(https://example.org/)">text-9</div>',
    '<style>* { display: none }</style><link rel="stylesheet" href="https://example.org/x.css">text-10',
    '<form action="https://example.org/"><input name="x" autofocus onfocus="alert(1)"><button>text-11</button></form>',
    '<img src="https://example.org/pixel.png">text-12',
    f"</div></div></body></html><script>{ACT}</script>text-13",
    f'<noscript><p title="</noscript><img src=x onerror={ACT}>"></noscript>text-14',
    f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror={ACT}&gt;">text-15',
    f'<details open ontoggle="{ACT}"><summary>text-16</summary></details>',
    '<p class="score full-credit modal" id="check_freeze_layers">text-17</p>',
    '<div style="margin-top:-2000px;opacity:0.5;behavior:url(x);width:expression(alert(1))">text-18</div>',
    '<object data="https://example.org/x.swf"></object><embed src="x.svg">text-19',
    f"<textarea></textarea><title></title><xmp></xmp><script/src=x>{ACT}</script>text-20",
    '<img src="data:image/svg+xml;base64,PHN2Zz4=" usemap="#x">text-21',
    '<a href="//example.org/">text-22</a> <a href="../../logout">text</a>',
    f'<video src="x" onerror="{ACT}" autoplay></video><audio src="x" onerror="{ACT}"></audio>text-23',
    "{{ resources.base_url }}{% raw %}text-24",
    "<template><script>1</script></template><slot></slot>text-25",
    "<a href='https://example.org' ping='https://example.org/ping' target='_top'>text-26</a>",
    "\\(\\href{javascript:alert(1)}{x}\\) $\\style{position:fixed}{x}$ $\\cssId{check_accuracy}{x}$ text-27",
]
HOSTILE_MARKDOWN = [
    "[link](javascript:alert(1)) text-40",
    "![x](javascript:alert(1)) [ref]: javascript:alert(1) text-41",
    '![x](https://example.org/pixel.png "title") text-42',
    f"```mermaid\n<img src=x onerror={ACT}>\n```\n\ntext-43",
    f'```"><img/src=x/onerror={ACT}>\ncode\n```\n\ntext-44',
    "$\\href{javascript:alert(1)}{x}$ and $$\\require{x} \\class{score}{x}$$ text-45",
    f'![" onerror="{ACT}](x) text-46',
    f"# <img src=x onerror={ACT}> text-47",
    "![x](attachment:missing.png) text-48",
    "![x](attachment:evil.svg) text-49",
    '<javascript:alert(1)> <https://example.org/"onclick=alert(1)> text-50',
    f"| a |\n|---|\n| <script>{ACT}</script> |\n\ntext-51",
    f"\\begin{{x}}<img src=x onerror={ACT}>\\end{{x}} text-52",
]


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


FINE_URL = re.compile(r"https?://|mailto:|#|data:image/(png|jpeg|gif);base64,[A-Za-z0-9+/=]+$|/formgrader/")
ELEMENTS = (
    "script style iframe frame object embed form input button textarea select meta base link svg math video audio"
)
ELEMENTS += " template title portal applet marquee dialog"
BAD_STYLE = re.compile(r"position|url|expression|behavior|z-index|transform|float|-\d|@import|\\", re.I)
GRADING_CLASSES = {"score", "comment", "full-credit", "no-credit", "mark-graded", "modal", "navbar", "nbgrader_cell"}


def active(html: str) -> Counter[str]:
    """Count everything in a page that can act, load, cover other things, or be taken for a part of the page."""
    found: Counter[str] = Counter()
    for element in BeautifulSoup(html, "html.parser").find_all(True):
        if element.name in ELEMENTS.split():
            found[f"{element.name} {element.get_text()[:80] if element.name != 'textarea' else ''}"] += 1
        classes = set(element.get("class") or [])
        found.update(f"class {name}" for name in classes & GRADING_CLASSES)
        for name, value in element.attrs.items():
            text = value if isinstance(value, str) else " ".join(value)
            if name.startswith("on") or name in (
                "srcdoc",
                "action",
                "formaction",
                "ping",
                "target",
                "usemap",
                "srcset",
            ):
                found[f"{element.name} {name}={text}"] += 1
            if name in ("href", "src", "data", "background", "poster") and not FINE_URL.match(text):
                found[f"{element.name} {name}={text}"] += 1
            if name == "src" and element.name == "img" and text.startswith("http"):
                found[f"{element.name} {name}={text}"] += 1
            if name == "style" and BAD_STYLE.search(text):
                found[f"{element.name} {name}={text}"] += 1
            if name == "id" and not text.startswith(("nb-", "cell-id=")):
                found[f"id {text}"] += 1
    return found


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

    page = rendered(exporter, repaired)
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


def test_pandas_tables_kept() -> None:
    """Tables of pandas keep their structure and harmless styles."""
    table = (
        "<div><style scoped>.dataframe tbody tr th { vertical-align: top; }</style>"
        '<table border="1" class="dataframe"><thead><tr style="text-align: right;"><th></th><th>loss</th></tr></thead>'
        '<tbody><tr><th>0</th><td style="color: rgb(1, 2, 3)">0.5</td></tr></tbody></table><p>1 rows × 1 columns</p></div>'
    )
    cleaned = clean_html(table)
    assert "<style" not in cleaned
    assert '<table border="1" class="dataframe">' in cleaned
    assert '<tr style="text-align:right">' in cleaned
    assert 'style="color:rgb(1, 2, 3)"' in cleaned
    assert clean_html(cleaned) == cleaned


def test_clean_html_idempotent() -> None:
    """Cleaning twice changes nothing."""
    for html in HOSTILE_HTML:
        once = clean_html(html)
        assert clean_html(once) == once


@pytest.mark.parametrize(
    "style",
    [
        "position:absolute",
        "background:url(x)",
        "background:u\\72l(x)",
        "color:expression(alert(1))",
        "margin:-10px",
        "margin:calc(0px - 10px)",
        "display:none",
        "color:red/**/;position:/**/fixed",
        "--x:1",
        "color:var(--x)",
        "width:" + "a" * 60 + "!",
    ],
)
def test_clean_html_unsafe_styles(style: str) -> None:
    """Styles that reach beyond their cell are removed."""
    cleaned = clean_html(f'<p style="{style}">x</p>')
    assert cleaned == "<p>x</p>"


@pytest.mark.parametrize(
    "unit", ["\\begin{a}", "\\\\(", "$a ", "<a ", "> ", "[", "**a *", "<div>\n", "# a\n", "<b>", "`"]
)
def test_markdown_rendering_fast(unit: str) -> None:
    """Repeated Markdown syntax is rendered in seconds."""
    source = (unit * 100_000)[:99_000]
    began = time.process_time()
    markdown2html({"cell": {}}, source)
    assert time.process_time() - began < 8


def test_markdown_very_long_text() -> None:
    """Very long text is shown as plain text."""
    html = markdown2html({"cell": {}}, "<script>1</script>" * 20_000)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_markdown_pictures() -> None:
    """Attached and inline pictures are shown."""
    cell = {"attachments": {"a.png": {"image/png": PNG}}}
    assert f'src="data:image/png;base64,{PNG}"' in markdown2html({"cell": cell}, "![x](attachment:a.png)")
    assert f'src="data:image/png;base64,{PNG}"' in markdown2html({"cell": {}}, f"![x](data:image/png;base64,{PNG})")
    assert "src=" not in markdown2html({"cell": {}}, "![x](attachment:b.png)")


def test_picture_keeps_alt_and_width(exporter: HTMLExporter) -> None:
    """Pictures keep their text description and width."""
    told = {"alt": 'Curves: 3 < 4 & "5"', "width": 640, "needs_background": "light", "onload": "x"}
    output = {"output_type": "display_data", "data": {"image/png": PNG}, "metadata": {"image/png": told, "tags": [1]}}
    (clean,) = clean_outputs([output], 10**6)
    assert clean.metadata == {"image/png": {"alt": "Curves: 3   4    5 ", "width": 640}}
    page = rendered(exporter, nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[clean])]))
    assert re.search(r'<img[^>]*alt="Curves: 3 {3}4 {4}5 "', page)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        {"image/png": "x"},
        {"image/png": {"alt": ["x"], "width": "1 onload=x"}},
        {"image/png": {"alt": None, "width": True}},
        {"image/png": {"width": 10**9}},
        {"text/plain": {"alt": "x"}},
    ],
)
def test_picture_other_metadata_removed(metadata: object) -> None:
    """Other metadata of pictures is removed."""
    output = {"output_type": "display_data", "data": {"image/png": PNG, "text/plain": ""}, "metadata": metadata}
    (clean,) = clean_outputs([output], 10**6)
    assert clean.metadata == {}


def test_outputs_allowed_types() -> None:
    """Outputs keep text, tables and pictures only."""
    data = {
        "text/html": "<b>x</b><script>1</script>",
        "application/javascript": "1",
        "text/plain": "x",
        "image/png": PNG,
        "image/jpeg": "AA==",
        "image/svg+xml": "<svg/>",
    }
    outputs = [
        {"output_type": "execute_result", "data": data, "metadata": {"filenames": {"image/png": "/etc/x"}}},
        {"output_type": "stream", "name": "stdout", "text": ["a", "b"]},
        {"output_type": "stream", "name": "stdout", "text": "c"},
        {"output_type": "stream", "name": "stderr", "text": "d"},
        {"output_type": "display_data", "data": {"application/json": "{}"}, "metadata": {}},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mred\x1b[0m"]},
        {"output_type": "error", "ename": 3, "evalue": None, "traceback": {}},
        {"nonsense": 1},
        None,
    ]
    got = clean_outputs(outputs, 10_000)
    assert [o.output_type for o in got] == ["display_data", "stream", "stream", "error"]
    assert got[0].data == {"text/html": "<b>x</b>", "text/plain": "x", "image/png": PNG}
    assert got[0].metadata == {}
    assert [o.text for o in got[1:3]] == ["abc", "d"]
    assert got[3].traceback == ["\x1b[31mred\x1b[0m"]


def stream(text: str, name: str = "stdout") -> dict[str, str]:
    return {"output_type": "stream", "name": name, "text": text}


@pytest.mark.parametrize("limit", [0, 100, 1000, 20_000])
def test_outputs_byte_limit(limit: int) -> None:
    """Outputs are limited in bytes, with a note."""
    for outputs in (
        [stream("ä" * 50_000)],
        [stream("x", name) for _ in range(10_000) for name in ("stdout", "stderr")],
        [{"output_type": "error", "ename": "E", "evalue": "x" * 9999, "traceback": ["y" * 99_999]}],
        [{"output_type": "display_data", "data": {"text/html": "<b>x</b>" * 9999, "text/plain": "z" * 99_999}}],
    ):
        got = clean_outputs(outputs, limit)
        assert len(json.dumps(got, ensure_ascii=False).encode()) <= limit + 20_000 // 100 * 2 + 400
        assert any("... further output left out ..." in json.dumps(output) for output in got)
    assert clean_outputs([stream("x" * 5000)], 1000)[0].text.startswith("xxx")


def test_outputs_progress_bars() -> None:
    """Progress bars keep their last state."""
    (got,) = clean_outputs([stream("\r10%"), stream("\r20%\r100%\nnext\r\n")], 1000)
    assert got.text == "100%\nnext\n"


@pytest.mark.parametrize("value", ["", "AA==", "not base64", "<svg>", "data:image/png;base64,AA", None, 3, ["x", 2]])
def test_picture_data(value: object) -> None:
    """Data that is not a picture of its type is refused."""
    with pytest.raises(ValueError, match="no "):
        picture("image/png", value)
    assert picture("image/png", [PNG[:8] + "\n", PNG[8:]]) == PNG


def test_text_valid_unicode() -> None:
    """Joined text is valid Unicode without control characters."""
    assert joined(["a\ud800", "\0b\x1b[0m\tc"]) == "a\ufffdb\x1b[0m\tc"
    assert joined("\ud83d\ude00") == "😀"


def test_scrub_machine_paths() -> None:
    """Paths of the machine are replaced."""
    course = Path("/srv/course")
    paths = machine_paths(course)
    library = Path(str(amllab.__file__)).parent
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    text = (
        f'File "{nbformat.__file__}", line 1\n\x1b[32m{library}/data.py\x1b[0m {course}/x {course}2/x '
        f"{Path.home()}/.ssh:{json.__file__} /tmp/ipykernel_3/77.py in f"
    )
    assert scrub(text, paths) == (
        f'File "site-packages/nbformat/__init__.py", line 1\n\x1b[32mamllab/data.py\x1b[0m course/x {course}2/x '
        f"~/.ssh:{python}/json/__init__.py scratch/77.py in f"
    )
    assert scrub("nothing here", paths) == "nothing here"
    assert scrub("x", {}) == "x"
    (got,) = clean_outputs([stream(f"{course}/secret")], 1000, paths)
    assert got.text == "course/secret"
