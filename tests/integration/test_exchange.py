"""Faulty submissions in nbgrader's exchange do not stop the collection of others, with the real command."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import nbgrader, new_course, submit
from tests.helpers.mini_lab import ASSIGNMENT, NOTEBOOK
from tests.integration.test_student_ids import deep, remove_deep

TIME = "2026-11-28 10:00:00 UTC"


def test_exchange_collect_whole_class(tmp_path: Path) -> None:
    """The whole class is collected despite invalid times, deep folders and links, which are reported."""
    course, root = new_course(tmp_path / "course", ASSIGNMENT), tmp_path / "exchange"
    inbound = root / "advanced-machine-learning" / "inbound"
    for student, time, content in [
        ("aa", TIME, TIME.encode()),
        ("deep", TIME, TIME.encode()),
        ("link", TIME, TIME.encode()),
        ("name", "next tuesday", TIME.encode()),
        ("text", TIME, b"next tuesday-ish at 25:99"),
        ("zz", TIME, TIME.encode()),
    ]:
        folder = inbound / f"{student}+{ASSIGNMENT}+{time}+abc"
        folder.mkdir(parents=True)
        (folder / NOTEBOOK).write_bytes(b"new")
        (folder / "timestamp.txt").write_bytes(content)
    deep(inbound / f"deep+{ASSIGNMENT}+{TIME}+abc")
    (inbound / f"link+{ASSIGNMENT}+{TIME}+abc" / "passwd.txt").symlink_to("/etc/passwd")
    submit(course, "zz", b"old")  # the earlier collection has no valid time
    (course / "submitted" / "zz" / ASSIGNMENT / "timestamp.txt").write_bytes(b"\xff\xfe\0")
    done = nbgrader(course, "collect", ASSIGNMENT, "--update", f"--Exchange.root={root}")
    remove_deep(inbound)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    collected = {path.parent.parent.name: path.read_text() for path in course.glob(f"submitted/*/*/{NOTEBOOK}")}
    assert collected == dict.fromkeys(["aa", "deep", "link", "name", "text", "zz"], "new")
    assert not list(course.glob("submitted/link/*/passwd.txt"))
    for student, why in {"deep": "folders nested", "link": "a link or a device"}.items():
        (line,) = [line for line in done.stderr.splitlines() if f"Look at {student}: " in line]
        assert why in line
    assert "text: timestamp.txt" in done.stderr
    assert (course / "submitted" / "aa" / ASSIGNMENT / "timestamp.txt").read_text() == TIME
