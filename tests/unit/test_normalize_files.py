"""Files of any content, encoding, size and kind are read or replaced by the release, with a note."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbconvert.filters import markdown2html_mistune
from nbformat import NotebookNode

from amllab.matching import MAX_SOURCE_BYTES
from autograder.notebooks.normalize import NormalizedSubmission, normalize
from tests.helpers.damaged_notebooks import NAME, by_id, graded_ids, repaired

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 28).decode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"import torch", "not valid JSON"),
        (b"\x80\x81\xff\x00", "not text"),
        (b"[1, 2]", "it is JSON, but has no cells"),
        (b"{}", "it is JSON, but has no cells"),
        (b'{"nbformat": 4}', "damaged"),
        (b'{"nbformat": 4, "cells": [3]}', "damaged"),
        (b"[" * 100_000, "nested too deeply|not valid JSON"),
    ],
)
def test_files_unreadable(tmp_path: Path, release: NotebookNode, data: bytes, says: str) -> None:
    """An unreadable file is replaced by the release with a note."""
    (tmp_path / NAME).write_bytes(data)
    got = normalize(tmp_path / NAME, release)
    assert len(got.notes) == 1
    assert not got.readable
    assert re.search(says, got.notes[0]), got.notes
    assert graded_ids(got.notebook) == graded_ids(release)
    assert got.notes[0] in got.notebook.cells[0].source


def test_files_missing_and_renamed(tmp_path: Path, release: NotebookNode) -> None:
    """The note of a missing notebook lists the files; a renamed notebook is found."""
    assert "the folder is empty" in normalize(tmp_path / NAME, release).notes[0]
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    assert "report.pdf" in normalize(tmp_path / NAME, release).notes[0]
    submitted = copy.deepcopy(release)
    by_id(submitted, "freeze_layers").source = "mine = 1"
    nbformat.write(submitted, tmp_path / "transfer_learning (1).ipynb")
    got = normalize(tmp_path / NAME, release)
    assert "transfer_learning (1).ipynb" in got.notes[0]
    assert by_id(got.notebook, "freeze_layers").source == "mine = 1"


def test_old_notebook_format(tmp_path: Path, release: NotebookNode) -> None:
    """A notebook in format 3 keeps its graded cells."""
    nbformat.write(nbformat.convert(copy.deepcopy(release), 3), tmp_path / NAME, version=3)
    got = normalize(tmp_path / NAME, release)
    assert graded_ids(got.notebook) == graded_ids(release)


def raw_of(release: NotebookNode) -> dict[str, Any]:
    raw = json.loads(nbformat.writes(release))
    next(c for c in raw["cells"] if c["id"] == "freeze_layers")["source"] = "mine = 'ä'"
    return raw


def is_mine(got: NormalizedSubmission) -> bool:
    return got.readable and by_id(got.notebook, "freeze_layers").source == "mine = 'ä'"


@pytest.mark.parametrize("version", [True, 4.5, 99, "4", None, [], -1, 10**30, float("nan")])
def test_nbformat_odd_versions(tmp_path: Path, release: NotebookNode, version: object) -> None:
    """Odd version numbers of the format are ignored with a note."""
    raw = {**raw_of(release), "nbformat": version, "nbformat_minor": version}
    (tmp_path / NAME).write_text(json.dumps(raw))
    got = normalize(tmp_path / NAME, release)
    assert is_mine(got)
    assert "was read as usual" in got.notes[0]


@pytest.mark.parametrize("schema", [None, 0, 1, 2, 4, "3", -1])
def test_nbgrader_schema_versions(tmp_path: Path, release: NotebookNode, schema: object) -> None:
    """Metadata of older and newer nbgrader schemas is accepted."""
    raw = raw_of(release)
    for cell in raw["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"] = {"grade_id": cell["metadata"]["nbgrader"]["grade_id"]}
            if schema is not None:
                cell["metadata"]["nbgrader"]["schema_version"] = schema
    raw["metadata"] = {"kernelspec": {"name": "ir"}, "language_info": 3}
    (tmp_path / NAME).write_text(json.dumps(raw))
    got = normalize(tmp_path / NAME, release)
    assert is_mine(got)
    assert got.notes == []
    assert got.notebook.metadata == release.metadata
    assert [c.metadata.get("nbgrader") for c in got.notebook.cells] == [
        c.metadata.get("nbgrader") for c in release.cells
    ]


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "bom+latin-1"]
)
def test_encodings(tmp_path: Path, release: NotebookNode, encoding: str) -> None:
    """Notebooks in other encodings are read; a note mentions Latin-1."""
    text = json.dumps(raw_of(release), ensure_ascii=False).encode("latin-1", "ignore").decode("latin-1")
    bom = b"\xef\xbb\xbf" if encoding.startswith("bom") else b""
    (tmp_path / NAME).write_bytes(bom + text.encode(encoding.removeprefix("bom+")))
    got = normalize(tmp_path / NAME, release)
    assert is_mine(got)
    assert any("Latin-1" in note for note in got.notes) == ("latin-1" in encoding)


def test_json_nonstandard_literals(tmp_path: Path, release: NotebookNode) -> None:
    """NaN, infinity, huge integers and control characters do not make a file unreadable."""
    text = json.dumps(raw_of(release), ensure_ascii=False)
    text = text.replace('"points": 20', f'"points": {"9" * 10_000}').replace('"points": 30', '"points": NaN')
    text = text.replace('"points": 10', '"points": -Infinity').replace("mine = ", "mine\x01 = ")
    (tmp_path / NAME).write_text(f"\n{text}\n\0\0\0")
    got = normalize(tmp_path / NAME, release)
    assert is_mine(got)
    assert by_id(got.notebook, "check_accuracy").metadata == by_id(release, "check_accuracy").metadata


def test_json_lone_surrogates(tmp_path: Path, release: NotebookNode) -> None:
    """Text that UTF-8 cannot encode is replaced."""
    raw = raw_of(release)
    raw["cells"] += [
        {
            "cell_type": "code",
            "source": "x = '\ud800'\0",
            "metadata": {"tags": ["experiment"]},
            "outputs": [{"output_type": "stream", "name": "\udfff", "text": "\udfff"}],
        },
        {
            "cell_type": "markdown",
            "source": ["\ud800", "b"],
            "metadata": {},
            "attachments": {"\ud800": {"\ud800": "x"}},
        },
    ]
    (tmp_path / NAME).write_text(json.dumps(raw))
    got = normalize(tmp_path / NAME, release)
    assert is_mine(got)
    nbformat.write(got.notebook, tmp_path / "written.ipynb")
    assert [c.source for c in got.notebook.cells[-2:]] == ["x = '\ufffd'", "\ufffdb"]


def test_json_malformed_cells(tmp_path: Path, release: NotebookNode) -> None:
    """Fields of wrong types are emptied, and entries that are not cells are left out with a note."""
    raw = raw_of(release)
    raw["cells"] += [3, None, {}, {"cell_type": "code", "source": None}, {"source": {"a": 1}, "metadata": []}]
    raw["cells"].append({"cell_type": "code", "source": ["a", 3], "outputs": {"a": 1}, "metadata": {"tags": 4}})
    raw["cells"].append({"cell_type": "markdown", "metadata": {"nbgrader": {"grade_id": [1]}}, "id": {}})
    (tmp_path / NAME).write_text(json.dumps(raw))
    got = normalize(tmp_path / NAME, release)
    assert is_mine(got)
    assert got.notes == ["The file is damaged: 2 entries that are not cells were left out."]
    assert {c.source for c in got.notebook.cells[-5:]} == {""}


def test_old_notebook_format_with_damage(tmp_path: Path, release: NotebookNode) -> None:
    """Of a damaged notebook in format 3, the readable cells are kept."""
    old = json.loads(nbformat.writes(nbformat.convert(copy.deepcopy(release), 3), version=3))
    cells = old["worksheets"][0]["cells"]
    code = {"cell_type": "code", "input": "mine = 1", "metadata": {"tags": ["experiment"]}, "prompt_number": "x"}
    code["outputs"] = [
        {"output_type": "pyout", "text": ["1"], "png": PNG, "metadata": {}},
        {"output_type": "stream", "stream": "stderr", "text": "careful"},
        {"output_type": "pyerr", "ename": "E", "evalue": "v", "traceback": ["t"]},
        {"output_type": "pyout"},
        7,
    ]
    cells += [code, {"cell_type": "heading", "level": 2, "source": "Title"}, {"cell_type": "heading", "level": []}]
    old["worksheets"] += [None, {"cells": 3}]
    (tmp_path / NAME).write_text(json.dumps(old))
    got = normalize(tmp_path / NAME, release)
    assert got.notes == []
    assert graded_ids(got.notebook) == graded_ids(release)
    mine, title, _ = got.notebook.cells[-3:]
    assert mine.source == "mine = 1"
    assert mine.outputs[0].data == {"text/plain": "1", "image/png": PNG}
    assert (mine.outputs[1].name, mine.outputs[2].ename) == ("stderr", "E")
    assert title.source == "## Title"


def test_files_links_and_devices(tmp_path: Path, release: NotebookNode) -> None:
    """Pipes and devices would never end, and links may lead to the solution or another student: none is read."""
    solution = tmp_path / "solution.ipynb"
    solution.write_text(json.dumps(raw_of(release)))

    def folder(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name / NAME

    folder("folder").mkdir()
    os.mkfifo(folder("pipe"))
    folder("link").symlink_to(solution)
    folder("device").symlink_to("/dev/zero")
    folder("loop").symlink_to(NAME)
    folder("dangling").symlink_to("nothing")
    folder("renamed").with_name("other.ipynb").symlink_to(solution)
    (tmp_path / "away").symlink_to(tmp_path / "own")
    for name in ("folder", "pipe", "link", "device", "loop", "dangling", "renamed", "away"):
        got = normalize(tmp_path / name / NAME, release)
        assert not got.readable, name
        assert "mine" not in str(got.notebook)
    own = folder("own")
    own.with_name("real.ipynb").write_text(json.dumps(raw_of(release)))
    own.symlink_to("real.ipynb")
    assert is_mine(normalize(own, release))


def test_files_without_permission(tmp_path: Path, release: NotebookNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that cannot be read for lack of permission get a note."""
    (tmp_path / NAME).write_text(json.dumps(raw_of(release)))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for function in ("listdir", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, refuse)
            got = normalize(tmp_path / NAME, release)
        assert not got.readable
        assert "cannot be opened (Permission denied)" in got.notes[0]


@pytest.mark.parametrize("name", ["transfer_learning.ipynb.txt", "transfer_learning.ipynb.json", "My Lab.IPYNB"])
def test_files_named_by_downloads(tmp_path: Path, release: NotebookNode, name: str) -> None:
    """Names that browsers and operating systems give to downloads are recognised."""
    (tmp_path / "._transfer_learning.ipynb").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / name).write_text(json.dumps(raw_of(release)))
    got = normalize(tmp_path / NAME, release)
    assert is_mine(got)
    assert f"`{name}`" in got.notes[0]


def test_limits_of_code_and_cells(tmp_path: Path, release: NotebookNode) -> None:
    """A notebook with too much code or too many cells is not graded, and a note says why."""
    code = copy.deepcopy(release)
    code.cells.append(nbformat.v4.new_code_cell("weights = '" + "x" * MAX_SOURCE_BYTES + "'"))
    got = repaired(tmp_path, release, code)
    assert (got.readable, "kB of code" in got.notes[0]) == (False, True)
    many = copy.deepcopy(release)
    many.cells += [nbformat.v4.new_code_cell("1")] * 2001
    got = repaired(tmp_path, release, many)
    assert (got.readable, "cells; at most 2000" in got.notes[0]) == (False, True)
    assert "x" * 100 not in str(got.notebook)


@pytest.mark.parametrize("kind", ["code", "markdown", "output", "attachment"])
def test_limits_cell_of_30_megabytes(tmp_path: Path, release: NotebookNode, kind: str) -> None:
    """A cell of 30 MB takes limited time, and the result stays below 12 MB."""
    raw, much = raw_of(release), "x y\n" * 7_500_000
    cell: dict[str, Any] = {"cell_type": "code", "source": "1", "metadata": {"tags": ["experiment"]}, "outputs": []}
    if kind == "output":
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": much}]
    elif kind == "attachment":
        cell = {"cell_type": "markdown", "attachments": {"a.png": {"image/png": PNG + "A" * 30_000_000}}}
    else:
        cell["cell_type"], cell["source"] = kind, much
    raw["cells"].append(cell)
    (tmp_path / NAME).write_text(json.dumps(raw))
    began = time.process_time()
    got = normalize(tmp_path / NAME, release)
    assert time.process_time() - began < 20
    assert is_mine(got) == (kind != "code")
    assert len(json.dumps(got.notebook)) < 12_000_000
    assert bool(got.notes) == (kind != "output")


def test_notes_without_active_content(tmp_path: Path, release: NotebookNode) -> None:
    """File names in notes cannot inject HTML, links or formulas."""
    names = [
        "<img src=x onerror=alert(1)>",
        "`code` [a](javascript:1)",
        "$\\href{javascript:1}{x}$\n# head",
        b"\xff\x1b[2J",
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    (note,) = normalize(tmp_path / NAME, release).notes
    assert note.isprintable()
    html = BeautifulSoup(markdown2html_mistune(note), "html.parser")
    assert {element.name for element in html.find_all(True)} == {"p", "code"}
    assert "<img src=x onerror=alert(1)>" in html.get_text()


def test_notes_list_few_files(tmp_path: Path, release: NotebookNode) -> None:
    """A note lists only the first of many files."""
    for i in range(500):
        (tmp_path / f"file {i}").touch()
    (note,) = normalize(tmp_path / NAME, release).notes
    assert "and 490 more" in note
    assert len(note) < 500


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda c: (
        st.lists(c, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cells", "metadata", "source", "nbgrader", "tags", "outputs", "grade_id", "cell_type"]),
            c,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=json_values, metadata=json_values)
def test_json_arbitrary_content(tmp_path: Path, release: NotebookNode, cells: object, metadata: object) -> None:
    """No damaged notebook stops the batch."""
    (tmp_path / NAME).write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": cells, "metadata": metadata}))
    got = normalize(tmp_path / NAME, release)
    assert sorted(graded_ids(got.notebook)) == sorted(graded_ids(release))
