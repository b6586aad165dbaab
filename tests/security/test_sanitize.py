"""Outputs and texts of a submission are cleaned of everything active."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
import pytest

import amllab
from amllab.matching import joined
from autograder.notebooks.pictures import picture
from autograder.notebooks.rendering import clean_html, markdown2html
from autograder.notebooks.sanitize import clean_outputs, machine_paths, scrub
from tests.helpers.hostile_html import HOSTILE_HTML, PNG, active


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


def test_clean_html_leaves_nothing_active() -> None:
    """Nothing that is left can act, links lead to the web or to an address, and cleaning again changes nothing."""
    for html in HOSTILE_HTML:
        once = clean_html(html)
        assert active(once) == Counter(), html
        assert clean_html(once) == once
    for link in ("https://example.org/", "mailto:ada@example.org"):
        fine = f'<a href="{link}" rel="noopener noreferrer nofollow">x</a>'
        assert clean_html(fine) == fine


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


@pytest.mark.parametrize("form", ["./{}", "~/{}", "../{}", "{}", "../../tmp/{}"])
def test_scrub_relative_machine_paths(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Paths relative to the folder of a submission, as pip prints them, are replaced too."""
    monkeypatch.setattr(sys, "prefix", "/tmp/course/.venv")
    paths = machine_paths(Path("/tmp/course"))
    said = f"Requirement already satisfied: \x1b[32mnumpy\x1b[0m in {form.format('course/.venv/lib/x')} (2.4.6)"
    assert scrub(said, paths) == "Requirement already satisfied: \x1b[32mnumpy\x1b[0m in python/lib/x (2.4.6)"
    elsewhere = machine_paths(Path("/srv/course"))
    assert scrub("in ../srv/course/x, of ../server", elsewhere) == "in course/x, of ../server"


def test_scrub_leaves_other_text() -> None:
    """Text without paths of the machine stays as it is."""
    course = Path("/srv/course")
    paths = machine_paths(course)
    assert scrub("nothing here", paths) == "nothing here"
    assert scrub("x", {}) == "x"
    (got,) = clean_outputs([stream(f"{course}/secret")], 1000, paths)
    assert got.text == "course/secret"
