"""Faulty submissions in nbgrader's exchange do not stop the collection of others, with the real command."""

from __future__ import annotations

import os
import pwd
from datetime import datetime
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

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
    assert done.stderr.count("Processing ") == done.stderr.count("Processing 6 submissions of ") == 1
    collected = {path.parent.parent.name: path.read_text() for path in course.glob(f"submitted/*/*/{NOTEBOOK}")}
    assert collected == dict.fromkeys(["aa", "deep", "link", "name", "text", "zz"], "new")
    assert not list(course.glob("submitted/link/*/passwd.txt"))
    for student, why in {"deep": "folders nested", "link": "a link or a device"}.items():
        (line,) = [line for line in done.stderr.splitlines() if f"Look at {student}: " in line]
        assert why in line
    assert "text: timestamp.txt" in done.stderr
    assert (course / "submitted" / "aa" / ASSIGNMENT / "timestamp.txt").read_text() == TIME


def inbound(root: Path, student: str, time: str, content: bytes, owner: str = "") -> Path:
    """Create a submission in the exchange, which belongs to an account of this machine."""
    folder = root / "advanced-machine-learning" / "inbound" / f"{student}+{ASSIGNMENT}+{time}+{owner or 'abc'}"
    folder.mkdir(parents=True, mode=0o777)
    folder.chmod(0o777)
    (folder / NOTEBOOK).write_bytes(content)
    (folder / "timestamp.txt").write_text(time)
    if owner:
        for path in (folder, *folder.iterdir()):
            os.chown(path, pwd.getpwnam(owner).pw_uid, -1)
    return folder


def collected(course: Path) -> dict[str, str]:
    return {path.parent.parent.name: path.read_text() for path in course.glob(f"submitted/*/*/{NOTEBOOK}")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to other accounts")
def test_exchange_forged_name(tmp_path: Path) -> None:
    """Only a student's own account can submit for them; a course whose files have other owners can turn that off."""
    course, root = new_course(tmp_path / "course", ASSIGNMENT), tmp_path / "exchange"
    later = "2027-01-01 10:00:00 UTC"
    # accounts that each Linux has; "nobody-here" is none
    inbound(root, "daemon", TIME, b"own", "daemon")
    inbound(root, "daemon", later, b"forged", "bin")
    inbound(root, "bin", TIME, b"forged", "daemon")
    inbound(root, "sys", TIME, b"restored by the administrator", "root")
    inbound(root, "nobody-here", TIME, b"own", "bin")
    link = root / "advanced-machine-learning" / "inbound" / f"sys+{ASSIGNMENT}+{later}+link"
    link.symlink_to(inbound(root, "mail", TIME, b"linked", "sys"))
    os.chown(link, pwd.getpwnam("bin").pw_uid, -1, follow_symlinks=False)
    done = nbgrader(course, "collect", ASSIGNMENT, f"--Exchange.root={root}")
    assert done.returncode == 0, done.stderr
    own = {"daemon": "own", "sys": "restored by the administrator", "nobody-here": "own"}
    assert collected(course) == own
    told = [
        line.partition("Look at ")[2].partition(" in this name")[0]
        for line in done.stderr.splitlines()
        if "Look at" in line
    ]
    assert {text.partition(" submitted")[0] for text in told} == {
        "daemon: the account bin", "bin: the account daemon", "sys: the account bin", "mail: the account sys",
    }  # fmt: skip
    done = nbgrader(
        course, "collect", ASSIGNMENT, f"--Exchange.root={root}", "--update", "--ExchangeCollect.check_owner=False"
    )
    assert done.returncode == 0, done.stderr
    assert collected(course)["bin"] == "forged"


def test_exchange_changed_after_due_date(tmp_path: Path) -> None:
    """A submission that claims to be in time, but was changed after the due date, is listed."""
    course, root = new_course(tmp_path / "course", ASSIGNMENT), tmp_path / "exchange"
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.update_or_create_assignment(ASSIGNMENT, duedate=datetime(2026, 1, 10))
    inbound(root, "early", "2026-01-01 10:00:00 UTC", b"early")  # written now, by its name in time
    inbound(root, "late", "2026-01-11 10:00:00 UTC", b"late")
    done = nbgrader(course, "collect", ASSIGNMENT, f"--Exchange.root={root}")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "Look at" in line]
    assert "Look at early: by their own word in time, but changed after the due date" in line
    assert collected(course) == {"early": "early", "late": "late"}
    assert (course / "submitted" / "early" / ASSIGNMENT).stat().st_mode & 0o022 == 0


def test_exchange_faults_of_single_students(tmp_path: Path) -> None:
    """Whatever is in the place of a submission or of its copy, all other students are collected."""
    course, root = new_course(tmp_path / "course", ASSIGNMENT), tmp_path / "exchange"
    folders = {name: inbound(root, name, TIME, b"new") for name in ("aa", "", "..", ".hidden", "taken", "linked", "zz")}
    gone = folders["aa"].with_name(f"broken+{ASSIGNMENT}+{TIME}+x")
    gone.symlink_to(tmp_path / "nowhere")
    folders["aa"].with_name(f"file+{ASSIGNMENT}+{TIME}+x").write_text("no folder")
    submitted = course / "submitted"
    (submitted / "taken").mkdir(parents=True)
    (submitted / "taken" / ASSIGNMENT).write_text("a file of somebody")
    (tmp_path / "elsewhere").mkdir()
    (submitted / "linked").mkdir()
    (submitted / "linked" / ASSIGNMENT).symlink_to(tmp_path / "elsewhere")
    before = {path.name for path in course.iterdir()}
    done = nbgrader(course, "collect", ASSIGNMENT, "--update", f"--Exchange.root={root}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert collected(course) == {"aa": "new", "zz": "new"}
    assert (submitted / "taken" / ASSIGNMENT).read_text() == "a file of somebody"
    assert {path.name for path in course.iterdir()} == before
    assert {path.name for path in submitted.iterdir()} <= {"aa", "zz", "taken", "linked", "broken", "file"}
    for name in ("taken", "linked", "broken", "file"):
        assert f"Look at {name}: " in done.stderr, name
    assert f"Look at {folders[''].name}: it names no student" in done.stderr
