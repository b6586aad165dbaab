"""Student uploads, with the real ``nbgrader zip_collect``.

They are read if possible, otherwise collected with a note, and nobody else is affected.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ASSIGNMENT, NOTEBOOK, autograded, autograder_cli, nbgrader, new_course, scores

STEM = "transfer_learning"
FREEZE = "def freeze_layers(model, n_trainable):\n    return model\n"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
HTML = b"<!DOCTYPE html><html><body><pre>def freeze_layers(): pass</pre></body></html>"


def notebook(mark: str) -> bytes:
    cells = [{"cell_type": "code", "source": f"# {mark}", "metadata": {}, "outputs": [], "execution_count": None}]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).encode()


GOOD = notebook("this one")


def packed(*entries: tuple[str | zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def tarred(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.ipynb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def linked() -> bytes:
    info = zipfile.ZipInfo("link.ipynb")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return packed((info, b"/etc/passwd"), (NOTEBOOK, GOOD))


def without_flag() -> bytes:
    """Return a zip with a UTF-8 file name but without the UTF-8 flag, as some programs write it."""
    made = bytearray(packed(("Lösung/transfer_learning.ipynb", GOOD)))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = made.find(mark)
        made[at + flags + 1] &= ~0x08
    return bytes(made)


def large() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open(NOTEBOOK, "w", force_zip64=True) as entry:
        entry.write(GOOD)
    return file.getvalue()


def locked() -> bytes:
    made = bytearray(packed((NOTEBOOK, GOOD)))
    made[6] |= 1
    made[made.find(b"PK\x01\x02") + 8] |= 1
    return bytes(made)


def broken() -> bytes:
    made = bytearray(packed((NOTEBOOK, GOOD), how=zipfile.ZIP_STORED))
    made[100] ^= 255
    return bytes(made)


def many_entries() -> bytes:
    """Return a zip whose end record claims a huge central directory."""
    made = bytearray(packed((NOTEBOOK, GOOD)))
    at = made.rfind(b"PK\x05\x06")
    made[at + 12 : at + 16] = (1 << 30).to_bytes(4, "little")
    return bytes(made)


def nested(depth: int) -> bytes:
    made = packed((NOTEBOOK, GOOD))
    for _ in range(depth):
        made = packed(("inner.zip", made))
    return made


ZEROS = bytes(60_000_000)
BOMB = packed(("a", ZEROS))
READ = {
    "transfer_learning.ipynb": GOOD,
    "TRANSFER_LEARNING.IPYNB": GOOD,
    "transfer_learning.ipynb.txt": GOOD,
    "transfer_learning.ipynb.json": GOOD,
    "transfer_learning.ipynb (1).txt": GOOD,
    "transfer_learning-Copy1.ipynb": GOOD,
    "Copy of transfer_learning.ipynb": GOOD,
    "transfer_learning.json": GOOD,
    "transfer_learning.txt": b"\xef\xbb\xbf" + GOOD,
    "transfer_learning.html": GOOD,
    "plain.zip": packed((NOTEBOOK, GOOD)),
    "UPPER.ZIP": packed((NOTEBOOK, GOOD)),
    "really_a_zip.ipynb": packed((NOTEBOOK, GOOD)),
    "transfer_learning.zip": GOOD,
    "windows.zip": packed(("hand in\\transfer_learning.ipynb", GOOD)),
    "mac.zip": packed((f"__MACOSX/._{NOTEBOOK}", b"x"), (f"hand in/{NOTEBOOK}", GOOD), (f".x/{NOTEBOOK}", b"{}")),
    "umlaut.zip": without_flag(),
    "large.zip": large(),
    "linked.zip": linked(),
    "absolute.zip": packed((f"/etc/{NOTEBOOK}", GOOD)),
    "slip.zip": packed((f"../../../{NOTEBOOK}", GOOD)),
    "both.zip": packed(("a", b"x"), ("a/transfer_learning.ipynb", GOOD)),
    "twice.zip": packed((NOTEBOOK.upper(), GOOD), (NOTEBOOK, GOOD)),
    "front.zip": b"#!/bin/sh\n" + packed((NOTEBOOK, GOOD)),
    "data.zip": packed(*[(f"data/{i}.txt", b"1") for i in range(3000)], (NOTEBOOK, GOOD), ("helper.py", b"x = 1")),
    "bomb_beside.zip": packed((NOTEBOOK, GOOD), *[(f"b{i}.zip", BOMB) for i in range(9)]),
    "nested.zip": nested(2),
    "folder.tar": tarred((f"./folder/{NOTEBOOK}", GOOD)),
    "work.tar.gz": gzip.compress(tarred((f"work/{NOTEBOOK}", GOOD))),
    "work.tgz": gzip.compress(tarred((f"work/{NOTEBOOK}", GOOD))),
    "work.tar.bz2": bz2.compress(tarred((f"work/{NOTEBOOK}", GOOD))),
    "work.tar.xz": lzma.compress(tarred((f"work/{NOTEBOOK}", GOOD))),
    "transfer_learning.ipynb.gz": gzip.compress(GOOD),
}
SCRIPTS = {
    "percent.py": f"# ---\n# jupyter:\n#   x: 1\n# ---\n\n# %% [markdown]\n# # Title\n\n# %%\n{FREEZE}".encode(),
    "nbconvert.py": f"#!/usr/bin/env python\n# coding: utf-8\n\n# In[1]:\n\nimport torch\n\n# In[ ]:\n\n{FREEZE}".encode(),
    "plain.py": f"import torch\n\n{FREEZE}".encode(),
    "script.zip": packed(("src/plain.py", FREEZE.encode())),
}
UNREAD = {
    "no.zip": (b"PK\x03\x04 no zip", "damaged, cut off, or not an archive"),
    "empty.zip": (b"", "damaged, cut off, or not an archive"),
    "nothing.zip": (packed(), "it has no notebook"),
    "cut.zip": (packed((NOTEBOOK, GOOD))[:-30], "damaged, cut off, or not an archive"),
    "locked.zip": (locked(), "protected by a password: ask for it without one"),
    "broken.zip": (broken(), "damaged, cut off, or not an archive"),
    "method.zip": (packed((NOTEBOOK, GOOD), how=zipfile.ZIP_LZMA), "uses an unsupported compression"),
    "entries.zip": (many_entries(), "it has too many files"),
    "pictures.zip": (packed(("a.png", b"x"), ("b.csv", b"1")), "it has no notebook"),
    "deep.zip": (nested(4), "archives nested"),
    "bomb.zip": (packed((NOTEBOOK, ZEROS)), "more than 50 MB"),
    "bombs.zip": (packed(*[(f"{i}.ipynb", ZEROS) for i in range(5)]), "unpacks to more than 200 MB"),
    "bombs_in.zip": (packed(*[(f"b{i}.zip", BOMB) for i in range(9)]), "it has no notebook"),
    "no.gz": (b"no gzip", "damaged, cut off, or not an archive"),
    "bomb.gz": (gzip.compress(gzip.compress(bytes(210_000_000), 1)), "unpacks to more than 200 MB"),
    "no.tar": (b"no tar", "damaged, cut off, or not an archive"),
    "no.xz": (b"\xfd7zXZ\x00\x00\x00", "damaged, cut off, or not an archive"),
    "work.7z": (
        b"7z\xbc\xaf'\x1c" + bytes(40),
        "it is a 7z archive, which is not supported: ask for a .zip or the .ipynb",
    ),
    "work.rar": (b"Rar!\x1a\x07\x01\x00", "it is a rar archive, which is not supported"),
    "hidden_rar.zip": (b"Rar!\x1a\x07\x01\x00", "it is a rar archive"),
    "report.docx": (packed(("word/document.xml", b"<x/>")), "it is a Word document, not the notebook"),
    "report.doc": (OLE, "it is a Word document"),
    "report.pdf": (b"%PDF-1.7", "it is a PDF, not the notebook"),
    "transfer_learning.ipynb.html": (HTML, "it is a web page, not the notebook"),
    "transfer_learning.html": (HTML, "it is a web page"),
    "picture.png": (b"\x89PNG", "it is a picture"),
    "wrong.py": (b"def freeze_layers(model:\n", "a script that cannot be read"),
    "numbers.py": (b"x = 1\n", "a script without functions"),
    "notes": (b"hello", "it is not a notebook"),
    "control\x1b[2J.pdf": (b"%PDF", "it is a PDF"),
}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], str, set[Path]]:
    """Collect all uploads from Canvas, between two ordinary ones.

    Returns the course, the students by file name, the log, and the files outside of the course.
    """
    outside = tmp_path_factory.mktemp("outside")
    course = new_course(outside / "a" / "b" / "course")
    archive = course / "downloaded" / ASSIGNMENT / "archive"
    archive.mkdir(parents=True)
    students = {}
    with zipfile.ZipFile(archive / "submissions.zip", "w") as download:
        download.writestr(f"aa_1_1_{NOTEBOOK}", notebook("aa"))
        contents = [*READ.items(), *SCRIPTS.items(), *((name, content) for name, (content, _) in UNREAD.items())]
        for i, (name, content) in enumerate(contents, 100):
            kind = "s" if name in SCRIPTS else "u" if name in UNREAD and UNREAD[name][0] == content else "r"
            students[f"{kind}:{name}"] = f"{kind}{i}"
            download.writestr(f"{kind}{i}_{i}_{i}_{name}", content)
        download.writestr("text_7_text.html", "<p>My link</p>")
        download.writestr(f"zz_2_2_{NOTEBOOK}", notebook("zz"))
    done = nbgrader(course, "zip_collect", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    strays = {path for path in outside.rglob("*") if course not in path.parents and path != course}
    return course, students, done.stderr, strays


def folder(course: Path, student: str) -> Path:
    return course / "submitted" / student / ASSIGNMENT


@pytest.mark.parametrize("name", READ)
def test_upload_readable(collected: tuple[Path, dict[str, str], str, set[Path]], name: str) -> None:
    """Notebooks under other names and in archives are collected unchanged."""
    course, students, _, _ = collected
    (found,) = folder(course, students[f"r:{name}"]).iterdir()
    assert found.name == NOTEBOOK
    assert found.read_bytes().removeprefix(b"\xef\xbb\xbf") == GOOD


@pytest.mark.parametrize("name", SCRIPTS)
def test_upload_script_converted(collected: tuple[Path, dict[str, str], str, set[Path]], name: str) -> None:
    """A script is converted to a notebook, and a note says so."""
    course, students, _, _ = collected
    place = folder(course, students[f"s:{name}"])
    (made,) = place.glob("*.ipynb")
    sources = [
        "".join(cell["source"]) for cell in json.loads(made.read_bytes())["cells"] if cell["cell_type"] == "code"
    ]
    assert FREEZE.strip() in sources[-1]
    assert "is a script: its code was put into a notebook" in (place / "collected.txt").read_text()


@pytest.mark.parametrize("name", UNREAD)
def test_upload_unreadable_note(collected: tuple[Path, dict[str, str], str, set[Path]], name: str) -> None:
    """An unreadable upload becomes a note with the reason, also in the log."""
    course, students, log, _ = collected
    student = students[f"u:{name}"]
    (note,) = folder(course, student).iterdir()
    assert note.name == "collected.txt"
    assert UNREAD[name][1] in note.read_text()
    assert UNREAD[name][1] in "".join(line for line in log.splitlines() if f"] {student}: " in line)


def test_upload_others_unaffected(
    collected: tuple[Path, dict[str, str], str, set[Path]],
) -> None:
    """All other students are collected, and no file is left outside of the course."""
    course, students, log, strays = collected
    assert {path.name for path in (course / "submitted").iterdir()} == {"aa", "zz", "text", *students.values()}
    assert (folder(course, "aa") / NOTEBOOK).read_bytes() == notebook("aa")
    assert (folder(course, "zz") / NOTEBOOK).read_bytes() == notebook("zz")
    assert "text or a link typed into the form" in (folder(course, "text") / "collected.txt").read_text()
    assert {path.name for path in strays} <= {"a", "b"}
    assert not [path for path in course.rglob("*") if path.is_symlink() or ".part" in path.name]
    assert "\x1b[2J" not in log
    for name, student in students.items():  # the log has a line for each file
        assert f"] {student}: " in log, name


def test_upload_collect_twice(collected: tuple[Path, dict[str, str], str, set[Path]]) -> None:
    """Collecting twice gives the same files and keeps a corrected timestamp."""
    course, _, _, _ = collected
    before = {path: path.read_bytes() for path in (course / "submitted").rglob("*") if path.is_file()}
    (folder(course, "aa") / "timestamp.txt").write_text("2026-11-28 11:00:00 +0100")
    done = nbgrader(course, "zip_collect", ASSIGNMENT, "--force")
    assert done.returncode == 0, done.stderr[-3000:]
    after = {path: path.read_bytes() for path in (course / "submitted").rglob("*") if path.is_file()}
    # a time that a teacher wrote next to the same notebook is kept
    assert after.pop(folder(course, "aa") / "timestamp.txt").startswith(b"2026-11-28 10:00:00")
    assert after == before


def test_upload_unreadable_scores_zero(collected: tuple[Path, dict[str, str], str, set[Path]]) -> None:
    """An unreadable upload gets no points, with the reason in the notebook and in the table."""
    course, students, _, _ = collected
    chosen = [students["u:work.7z"], students["u:locked.zip"]]
    keep = {*chosen, "aa"}
    for place in (course / "submitted").iterdir():
        if place.name not in keep:
            shutil.rmtree(place)
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    table = autograder_cli(course, "scores", ASSIGNMENT).stdout
    for student, why in zip(chosen, ("7z archive, which is not supported", "protected by a password"), strict=True):
        assert set(scores(course, student).values()) <= {0.0, None}
        assert why in autograded(course, student).cells[0].source
        (row,) = [line for line in table.splitlines() if line.startswith(f"{student} ")]
        assert why in row


def test_download_unreadable_exit_status(tmp_path: Path) -> None:
    """Unreadable downloads are reported with an exit status, and the others are collected."""
    course = new_course(tmp_path)
    archive = course / "downloaded" / ASSIGNMENT / "archive"
    archive.mkdir(parents=True)
    whole = packed((f"ada_1_2_{NOTEBOOK}", GOOD))
    (archive / "first.zip").write_bytes(whole)
    (archive / "second.zip").write_bytes(whole[:-20])
    (archive / "class.7z").write_bytes(b"7z\xbc\xaf'\x1c")
    (archive / f"ben_3_4_{NOTEBOOK}").write_bytes(GOOD)  # from a download that a person unpacked
    # names within a student's zip do not refer to other students
    (archive / "mm_5_6_evil.zip").write_bytes(packed((f"ada_1_999_{NOTEBOOK}", notebook("evil"))))
    os.symlink("nowhere", archive / "gone.zip")
    # some unpacking programs create the links of an upload
    os.symlink(archive / f"ben_3_4_{NOTEBOOK}", archive / f"cat_7_8_{NOTEBOOK}")
    done = nbgrader(course, "zip_collect", ASSIGNMENT)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    failures = re.findall(r"Not collected: (.*)", done.stderr)
    assert len(failures) == 4
    links = [f for f in failures if "it is a link, which is not followed: copy the file here" in f]
    assert sorted(link.split(":")[0] for link in links) == [f"cat_7_8_{NOTEBOOK}", "gone.zip"]
    assert any(f.startswith("second.zip: it is damaged, cut off") and "download it again" in f for f in failures)
    assert any(f.startswith("class.7z: it is a 7z archive, which is not supported: unpack it here") for f in failures)
    assert {path.name for path in (course / "submitted").iterdir()} == {"ada", "ben", "mm"}
    assert (folder(course, "ada") / NOTEBOOK).read_bytes() == GOOD
