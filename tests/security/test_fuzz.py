"""Thousands of damaged notebooks: none stops the batch, and none changes what is graded.

Each case is processed like a submission up to the point where it would run: repaired, validated, passed through
nbgrader's own preprocessors with a real gradebook, written and read again. The worst files also go through the real
command as a class.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from traitlets.config import Config

from autograder import configure
from autograder.notebooks.normalize import normalize
from tests.conftest import ASSIGNMENT, NOTEBOOK, autograded, examples, nbgrader, new_course, scores, submit

FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
Way = Callable[[bytes], None]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_course(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def way(course: Path, release: NotebookNode, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """Return a function that processes a submitted file up to where it would run, and fails if grading is affected."""
    config = Config()
    configure(config)
    exporter = NotebookExporter(config=Config({"Exporter": {"default_preprocessors": []}}))
    for name in config.Autograde.sanitize_preprocessors:
        exporter.register_preprocessor(name, enabled=True)
    names = {"notebook": "transfer_learning", "assignment": ASSIGNMENT, "student": "x"}
    resources = {"nbgrader": {**names, "db_url": f"sqlite:///{course}/gradebook.db"}}
    folder = tmp_path_factory.mktemp("submission")
    expected = graded(release)

    def go(content: bytes) -> None:
        (folder / NOTEBOOK).write_bytes(content)
        repaired = normalize(folder / NOTEBOOK, release)
        assert repaired.readable or len(repaired.notes) == 1
        assert graded(repaired.notebook) == expected
        # nbgrader takes most of the time: it gets every fourth notebook, every twentieth if nothing could be read
        if zlib.crc32(content) % (4 if repaired.readable else 20):
            nbformat.writes(repaired.notebook).encode()
            return
        text, _ = exporter.from_notebook_node(repaired.notebook, resources=copy.deepcopy(resources))
        (folder / "autograded.txt").write_text(text, encoding="utf-8")
        notebook = nbformat.reads((folder / "autograded.txt").read_text(encoding="utf-8"), as_version=4)
        assert graded(notebook) == expected

    return go


def graded(notebook: NotebookNode) -> dict[str, Any]:
    """Return everything about graded cells that students must not change."""
    found = {}
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            mark = dict(cell.metadata.nbgrader)
            assert mark["grade_id"] not in found
            checksum = mark.pop("checksum")
            locked = mark["locked"] or not mark["solution"]
            found[mark["grade_id"]] = (
                mark,
                cell.cell_type,
                locked and (checksum, cell.source),
                cell.metadata.get("tags"),
            )
    return found


WORDS = [
    "cells",
    "metadata",
    "source",
    "nbgrader",
    "tags",
    "outputs",
    "grade_id",
    "cell_type",
    "points",
    "locked",
    "id",
]
WORDS += [
    "experiment",
    "skip-execution",
    "grading-note",
    "freeze_layers",
    "check_accuracy",
    "reflection",
    "code",
    "raw",
]
WORDS += ["markdown", "worksheets", "input", "data", "text/html", "image/png", "attachments", "output_type", "stream"]
TEXT = st.sampled_from(WORDS) | st.text(max_size=8) | st.sampled_from(["\ud800", "\0", "<script>", "x" * 300_000])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just(10**40)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
ACTIONS = ["replace", "replace", "drop", "double", "rename", "wrap", "swap", "insert", "empty"]
CHANGE = st.tuples(st.lists(st.integers(0, 997), min_size=1, max_size=7), st.sampled_from(ACTIONS), VALUES, TEXT)


def changed(root: Any, steps: list[int], action: str, value: Any, word: str) -> Any:
    """Follow the steps into the JSON, and change the value found there."""
    parent, key, node = None, None, root
    for step in steps:
        if not isinstance(node, dict | list) or not node:
            break
        key = sorted(node, key=repr)[step % len(node)] if isinstance(node, dict) else step % len(node)
        parent, node = node, node[key]
    if parent is None:
        return value
    if action == "replace":
        parent[key] = value
    elif action == "drop":
        del parent[key]
    elif action == "wrap":
        parent[key] = [node] if steps[-1] % 2 else {word: node}
    elif action == "empty":
        parent[key] = type(node)()
    elif action == "swap":
        other = sorted(parent, key=repr)[-1] if isinstance(parent, dict) else -1
        parent[key], parent[other] = parent[other], parent[key]
    elif isinstance(parent, list):
        parent.insert(steps[-1] % (len(parent) + 1), copy.deepcopy(node) if action == "double" else value)
    else:
        parent[word] = copy.deepcopy(node) if action != "insert" else value
        if action == "rename" and word != key:
            del parent[key]
    return root


@settings(FUZZ, max_examples=examples(600))
@given(changes=st.lists(CHANGE, min_size=1, max_size=8))
def test_fuzz_changed_notebooks(
    way: Way, release: NotebookNode, changes: list[tuple[list[int], str, Any, str]]
) -> None:
    """Random changes in the JSON of a notebook do not change what is graded."""
    raw: Any = json.loads(nbformat.writes(release))
    for change in changes:
        raw = changed(raw, *change)
    way(json.dumps(raw).encode())


DAMAGE = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "splice", "end"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=12) | st.sampled_from([b'"', b"\0" * 64, b"}", b"\xff\xfe", b"\\u0000", b"\\ud800"]),
)


def damaged(content: bytes, kind: str, place: float, other: float, extra: bytes) -> bytes:
    at, to = int(place * len(content)), int(other * len(content))
    if kind == "flip" and content:
        return content[:at] + bytes([content[at] ^ extra[0]]) + content[at + 1 :]
    if kind == "cut":
        return content[:at] + content[at + len(extra) :]
    if kind == "insert":
        return content[:at] + extra + content[at:]
    if kind == "splice":
        return content[:at] + content[to : to + 500] + content[at:]
    return content[: max(at, len(content) // 2)]


@settings(FUZZ, max_examples=examples(600))
@given(damage=st.lists(DAMAGE, min_size=1, max_size=4))
def test_fuzz_damaged_files(way: Way, release: NotebookNode, damage: list[tuple[str, float, float, bytes]]) -> None:
    """Random damage to the bytes of a notebook does not change what is graded."""
    content = nbformat.writes(release).encode()
    for one in damage:
        content = damaged(content, *one)
    way(content)


def nasty(release: NotebookNode) -> dict[str, bytes]:
    """Return files that nbgrader's readers cannot handle; the readable ones contain no code that runs for long."""
    raw = json.loads(nbformat.writes(release))
    raw["cells"] = [cell for cell in raw["cells"] if cell["id"] == "reflection"]
    whole = json.dumps(raw).encode()

    def with_cell(**fields: Any) -> bytes:
        return json.dumps(
            {**raw, "cells": [{"cell_type": "markdown", "source": "x", "metadata": {}, **fields}]}
        ).encode()

    attack = "</script><script>document.title='PWNED'</script>"
    return {
        "empty": b"",
        "zeros": b"\0" * 100_000,
        "brackets": b"[" * 200_000,
        "objects": b'{"a":' * 100_000,
        "half": whole[: len(whole) // 2],
        "merge": b"<<<<<<< HEAD\n" + whole,
        "binary": bytes(range(256)) * 100,
        "utf16": b"\xff\xfe" + whole,
        "bom": b"\xef\xbb\xbf\xef\xbb\xbf",
        "number": b"9" * 100_000,
        "nan": b"NaN",
        "string": b'"\\ud800"',
        "no_cells": b'{"nbformat": 4}',
        "cells_null": b'{"nbformat": 4, "cells": null}',
        "cells_numbers": b'{"nbformat": 4, "cells": [1, 2]}',
        "sheets": b'{"nbformat": 3, "worksheets": [[]]}',
        "code": with_cell(cell_type="code", source="x" * 30_000_000),
        "many": json.dumps({**raw, "cells": raw["cells"] * 5000}).encode(),
        "version": json.dumps({**raw, "nbformat": 1e400, "nbformat_minor": True}).encode(),
        "surrogates": with_cell(source="\ud800", attachments={"\udfff": {"image/png": "\ud800"}}),
        "attachment": with_cell(source="![x](attachment:y)", attachments={"y": {}}),
        "types": with_cell(metadata=[], id=3, source={"a": []}, attachments=7),
        "schema": with_cell(metadata={"nbgrader": {"schema_version": 99, "grade_id": "reflection"}}),
        "attack": with_cell(source=attack, metadata={"nbgrader": {"grade_id": attack, "grade": True, "points": "NaN"}}),
        "prose": with_cell(source="\\\\begin{a}" * 1_000_000),
    }


@pytest.mark.slow
def test_fuzz_class_of_worst_files(course: Path, release: NotebookNode) -> None:
    """A class of the worst files is graded with zero points, an explanation and safe feedback."""
    files = nasty(release)
    for student, content in files.items():
        submit(course, student, content)
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-4000:]
    for student in files:
        got = scores(course, student)
        assert set(got) == {name for name, (mark, *_) in graded(release).items() if mark["grade"]}
        assert {got[name] for name in got if name != "reflection"} == {0}, student
        assert "From the grading" in autograded(course, student).cells[0].source
    feedback = nbgrader(course, "generate_feedback", ASSIGNMENT)
    assert feedback.returncode == 0, feedback.stderr[-4000:]
    pages = list(course.glob("feedback/*/*/*.html"))
    assert len(pages) == len(files)
    assert not any("<script>document.title" in page.read_text(encoding="utf-8") for page in pages)
