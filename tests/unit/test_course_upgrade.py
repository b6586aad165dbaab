"""An upgrade brings a course to a new version of the package and loses nothing of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder.authoring import new_course as courses
from autograder.authoring import upgrade_course as module
from autograder.authoring import write_files
from autograder.authoring.new_course import new_course
from autograder.authoring.shipped import files_of_lab
from autograder.authoring.upgrade_course import Upgrade, upgrade_course
from autograder.cli import main
from autograder.course import Course
from autograder.errors import CourseError, SettingsError
from autograder.labs.conflicts import conflict_lines
from autograder.labs.settings import load_lab
from tests.conftest import ASSIGNMENT, ROOT, sampled
from tests.helpers.course_labs import forgotten_course

LAB = "transfer_learning"
MASTER = f"source/{ASSIGNMENT}/{LAB}.py"
SETTINGS = f"labs/public/{LAB}/lab.toml"
PROBES = f"labs/public/{LAB}/probes.py"
THRESHOLDS = f"labs/public/{LAB}/thresholds.json"
SHIPPED = (ROOT / MASTER).read_bytes()
FIRST, LAST = SHIPPED.splitlines(keepends=True)[1], SHIPPED.splitlines(keepends=True)[-1]

DAMAGES = sampled(
    [
        "{",
        "",
        "[]",
        "null",
        '{"labs": []}',
        '{"amllab": "x", "title": "", "labs": [], "files": {}}',
        '{"amllab": "0.1", "title": "", "labs": [], "files": {"../x": ""}}',
        '{"amllab": "0.1", "title": "", "labs": 3, "files": {}}',
    ],
    4,
)

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    with forgotten_course():
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A course with lab 1."""
    new_course(tmp_path / "a course", [ASSIGNMENT])
    return tmp_path / "a course"


class Release:
    """A new version of the package, with some changed files."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch, self._original = patch, courses.course_files
        self.labs = module.shipped_labs()
        patch.setattr(module, "shipped_labs", lambda: self.labs)

    def publish(self, changes: dict[str, bytes | None], version: str = "9.0") -> None:
        """Install a version with these files; ``None`` removes one."""

        def files(title: str, labs: list[str]) -> dict[str, bytes]:
            found = self._original(title, labs)
            for name, content in changes.items():
                if content is None:
                    found.pop(name, None)
                elif any(lab in name or lab.replace("-", "_") in name for lab in labs) or "/" not in name:
                    found[name] = content
            return found

        self._patch.setattr(module, "course_files", files)
        self._patch.setattr(courses, "version", lambda package: version)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Release:
    return Release(monkeypatch)


def upgraded(root: Path, **options: object) -> Upgrade:
    return upgrade_course(Course.find(root), **options)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def edit(root: Path, name: str, old: bytes, new: bytes) -> None:
    text = (root / name).read_bytes()
    assert old in text
    (root / name).write_bytes(text.replace(old, new, 1))


def changed(name: str, old: bytes, new: bytes) -> bytes:
    """Return a shipped file with a change."""
    source = {"labs/public": "amllab/checks", "labs/hidden": "autograder/checks"}
    for ours, theirs in source.items():
        name = name.replace(ours, theirs)
    text = (ROOT / name).read_bytes()
    assert old in text
    return text.replace(old, new, 1)


def test_upgrade_nothing_changed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the same version, nothing is written, whatever the course has changed."""
    edit(root, MASTER, LAST, LAST + b"# mine\n")
    (root / "labs" / "hidden" / "own_lab").mkdir()
    before = contents(root)
    with contextlib.chdir(root):
        assert main(["upgrade-course"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(root) == before


def test_upgrade_merges_both_sides(root: Path, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    """Edits of the course and of the new version are both there, and each change is told."""
    edit(root, MASTER, LAST, LAST + b"# mine\n")
    edit(root, SETTINGS, b'title = "', b'# deadline: January\ntitle = "')
    new = {
        MASTER: SHIPPED.replace(FIRST, FIRST + b"# new\n", 1),
        PROBES: changed(PROBES, b"\nimport", b"\n# new\nimport"),
        f"labs/hidden/{LAB}/test_new_hidden.py": b"# new\n",
    }
    release.publish(new)
    with contextlib.chdir(root):
        assert main(["upgrade-course"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"merged    {MASTER} (your changes and those of amllab 9.0)" in lines
    assert f"updated   {PROBES} (+1 -0 lines)" in lines
    assert f"added     labs/hidden/{LAB}/test_new_hidden.py" in lines
    assert not [line for line in lines if SETTINGS in line]
    assert lines[-2:] == ["upgraded: amllab 0.1.0 to 9.0", f"next: run 'autograder build {ASSIGNMENT}'"]
    text = (root / MASTER).read_bytes()
    assert text == SHIPPED.replace(FIRST, FIRST + b"# new\n", 1) + b"# mine\n"
    assert b"# deadline: January" in (root / SETTINGS).read_bytes()
    assert json.loads((root / ".shipped" / "course.json").read_text())["amllab"] == "9.0"
    assert "amllab[grader]==9.0" in (root / "requirements.txt").read_text()
    before = contents(root)
    assert upgraded(root).writes == {}
    assert contents(root) == before


def test_upgrade_conflict(root: Path, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    """A conflict is marked, told with its lines, and nothing is built or upgraded before somebody has resolved it."""
    edit(root, MASTER, LAST, b"# mine\n")
    release.publish({MASTER: SHIPPED.replace(LAST, b"# new\n")})
    with contextlib.chdir(root):
        assert main(["upgrade-course"]) == 1
        (line,) = conflict_lines((root / MASTER).read_bytes())
        out = capsys.readouterr().out
        assert f"conflict  {MASTER} (line {line}: choose between both versions" in out
        assert f"to decide by you: {MASTER}" in out
        text = (root / MASTER).read_bytes()
        for part in (b"# mine\n", b"# new\n", b"<<<<<<< your course\n", b">>>>>>> amllab 9.0\n"):
            assert part in text
        before = contents(root)
        for command in (["upgrade-course"], ["build", ASSIGNMENT]):
            assert main(command) == 2
            assert f"{MASTER}, line {line}" in capsys.readouterr().err
        assert contents(root) == before
        (root / MASTER).write_bytes(SHIPPED.replace(LAST, b"# both\n"))
        assert main(["upgrade-course"]) == 0
        assert (root / MASTER).read_bytes() == SHIPPED.replace(LAST, b"# both\n")


@pytest.mark.parametrize("name", [SETTINGS, PROBES, f"labs/hidden/{LAB}/budget.py"])
def test_conflict_in_lab_stops_grading(root: Path, name: str) -> None:
    """Settings and checks with conflicts are named by file and line, before anything is graded with them."""
    (root / name).write_bytes(b"<<<<<<< your course\n" + (root / name).read_bytes())
    Course.find(root)
    with pytest.raises(SettingsError, match=f"{name}, line 1: choose between both versions"):
        load_lab(ASSIGNMENT)


def test_upgrade_generated_file_changed_on_both_sides(root: Path, release: Release) -> None:
    """Thresholds that the course measured stay; the new ones are in a folder for comparison, not next to them."""
    (root / THRESHOLDS).write_text("{}")
    release.publish({THRESHOLDS: b'{"new": 1}'})
    assert upgraded(root).conflicts == [THRESHOLDS]
    assert (root / THRESHOLDS).read_text() == "{}"
    assert (root / "upgrade-9.0" / THRESHOLDS).read_bytes() == b'{"new": 1}'
    assert upgraded(root).writes == {}


def test_upgrade_removed_lab_stays_removed(root: Path, release: Release) -> None:
    """A lab that the course has removed does not come back, unless it is asked for."""
    shutil.rmtree(root / "source" / ASSIGNMENT)
    release.publish({PROBES: changed(PROBES, b"\nimport", b"\n# new\nimport")})
    before = contents(root / "labs")
    done = upgraded(root)
    assert (done.removed, done.labs) == ([ASSIGNMENT], [])
    assert any(ASSIGNMENT in line and "removed it" in line for line in done.lines())
    assert contents(root / "labs") == before
    assert not (root / MASTER).exists()
    assert upgraded(root).removed == []  # said once
    again = upgraded(root, add=["transfer learning"])
    assert (root / MASTER).read_bytes() == SHIPPED
    assert again.labs == [ASSIGNMENT]
    assert again.conflicts == [PROBES]  # what was left of it is older, and nobody knows why
    assert (root / "upgrade-9.0" / PROBES).is_file()


def test_upgrade_adds_lab(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A shipped lab can be added later; a misspelled one is refused."""
    with contextlib.chdir(root):
        assert main(["upgrade-course", "--labs", "meta-lerning"]) == 2
        assert "did you mean meta-learning?" in capsys.readouterr().err
        assert main(["upgrade-course", "--labs", "meta-learning"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("meta" in line for line in lines) == 2  # not one for each of its files
    assert f"added     meta-learning ({len(files_of_lab('meta-learning'))} files)" in lines
    assert "next: run 'autograder build meta-learning'" in lines
    assert (root / "labs" / "hidden" / "meta_learning" / "__init__.py").is_file()
    assert (root / "source" / "meta-learning" / "meta_learning.py").is_file()
    assert "autograder build meta-learning" in (root / "README.md").read_text()


def test_upgrade_lab_no_longer_shipped(root: Path, release: Release) -> None:
    """A lab that the package drops stays in the course, which then owns it."""
    release.labs = [lab for lab in release.labs if lab != ASSIGNMENT]
    release.publish({})
    before = {name: content for name, content in contents(root).items() if ASSIGNMENT in name or LAB in name}
    done = upgraded(root)
    assert done.dropped == [ASSIGNMENT]
    assert {n: c for n, c in contents(root).items() if n in before and not n.startswith(".shipped")} == {
        n: c for n, c in before.items() if not n.startswith(".shipped")
    }


def test_upgrade_deleted_files(root: Path, release: Release) -> None:
    """Files that the course deleted stay deleted; files that the package dropped go, unless they were changed."""
    gone = f"labs/public/{LAB}/test_freeze_layers.py"
    dropped, edited = f"labs/hidden/{LAB}/training_means.py", f"labs/hidden/{LAB}/training_steps.py"
    (root / gone).unlink()
    edit(root, edited, b"import", b"# mine\nimport")
    release.publish({gone: b"# new\n", dropped: None, edited: None})
    done = upgraded(root)
    assert {name: outcome.what for name, outcome in done.outcomes.items() if name.startswith("labs")} == {
        gone: "left out",
        dropped: "deleted",
        edited: "kept",
    }
    assert not (root / gone).exists()
    assert not (root / dropped).exists()
    assert b"# mine" in (root / edited).read_bytes()


def test_upgrade_windows_line_ends(root: Path, release: Release) -> None:
    """Files with the line ends of Windows count as unchanged, are merged, and keep their line ends."""
    for name in (MASTER, PROBES, SETTINGS):
        (root / name).write_bytes((root / name).read_bytes().replace(b"\n", b"\r\n"))
    edit(root, MASTER, LAST.replace(b"\n", b"\r\n"), LAST.replace(b"\n", b"\r\n") + b"# mine\r\n")
    release.publish(
        {
            MASTER: SHIPPED.replace(FIRST, FIRST + b"# new\n", 1),
            PROBES: changed(PROBES, b"\nimport", b"\n# new\nimport"),
        }
    )
    done = upgraded(root)
    assert {name: done.outcomes[name].what for name in (MASTER, PROBES)} == {MASTER: "merged", PROBES: "updated"}
    assert SETTINGS not in done.outcomes
    for file in (root / ".shipped").rglob("*.*"):  # as a clone on Windows has them
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert upgraded(root).writes == {}
    for name in (MASTER, PROBES):
        text = (root / name).read_bytes()
        assert b"# new\r\n" in text
        assert text.count(b"\n") == text.count(b"\r\n")


def test_upgrade_dry_run(root: Path, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run tells what would happen, and writes nothing."""
    release.publish({PROBES: changed(PROBES, b"\nimport", b"\n# new\nimport")})
    before = contents(root)
    with contextlib.chdir(root):
        assert main(["upgrade-course", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"updated   {PROBES}" in out
    assert "would upgrade: amllab 0.1.0 to 9.0" in out
    assert contents(root) == before


def test_downgrade_is_refused(root: Path, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    """An older package does not take a course back; the message names the command that installs the newer one."""
    release.publish({}, version="0.0.9")
    before = contents(root)
    with contextlib.chdir(root):
        assert main(["upgrade-course"]) == 2
    assert 'pip install --upgrade "amllab[grader]>=0.1.0"' in capsys.readouterr().err
    assert contents(root) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_upgrade_damaged_record(root: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged record is no traceback: the message names both ways out."""
    (root / ".shipped" / "course.json").write_text(damage)
    before = contents(root)
    with contextlib.chdir(root):
        assert main(["upgrade-course"]) == 2
    text = capsys.readouterr().err
    assert ".shipped/course.json is damaged" in text
    assert "git checkout -- .shipped" in text
    assert "--without-base" in text
    assert contents(root) == before


def test_upgrade_lost_base(root: Path, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    """A course that has lost its base is refused; with the option, everything of its own stays, for comparison."""
    edit(root, MASTER, LAST, LAST + b"# mine\n")
    shutil.rmtree(root / ".shipped")
    release.publish({MASTER: SHIPPED.replace(FIRST, FIRST + b"# new\n", 1)})
    with contextlib.chdir(root):
        assert main(["upgrade-course"]) == 2
        assert "--without-base" in capsys.readouterr().err
        assert main(["upgrade-course", "--without-base"]) == 1
        assert "new version: upgrade-9.0/" in capsys.readouterr().out
        assert (root / MASTER).read_bytes() == SHIPPED + b"# mine\n"
        assert b"# new\n" in (root / "upgrade-9.0" / MASTER).read_bytes()
        assert main(["upgrade-course"]) == 0


def test_upgrade_lost_record_with_texts(root: Path, release: Release) -> None:
    """If only the record is lost, the texts are still merged."""
    edit(root, MASTER, LAST, LAST + b"# mine\n")
    (root / ".shipped" / "course.json").unlink()
    release.publish({MASTER: SHIPPED.replace(FIRST, FIRST + b"# new\n", 1)})
    assert upgraded(root, without_base=True).outcomes[MASTER].what == "merged"


def test_upgrade_one_lost_text(root: Path, release: Release) -> None:
    """A base text that was lost or edited is not trusted: the course's file stays."""
    edit(root, MASTER, LAST, LAST + b"# mine\n")
    (root / ".shipped" / MASTER).write_bytes(b"")
    release.publish({MASTER: SHIPPED.replace(FIRST, FIRST + b"# new\n", 1)})
    assert upgraded(root).conflicts == [MASTER]
    assert (root / MASTER).read_bytes() == SHIPPED + b"# mine\n"


@pytest.mark.parametrize("moment", sampled([1, 0, 3], 3))
def test_upgrade_interrupted(root: Path, release: Release, moment: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade that is interrupted between two files is completed by the same command; edits are there once."""
    edit(root, MASTER, LAST, LAST + b"# mine\n")
    release.publish(
        {
            MASTER: SHIPPED.replace(FIRST, FIRST + b"# new\n", 1),
            PROBES: changed(PROBES, b"\nimport", b"\n# new\nimport"),
            SETTINGS: changed(SETTINGS, b"title", b"# new\ntitle"),
        }
    )
    replaced, done = os.replace, 0

    def interrupted(old: Path, new: Path) -> None:
        nonlocal done
        if done == moment:
            raise KeyboardInterrupt
        done += 1
        replaced(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(write_files.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            upgraded(root)
    assert json.loads((root / ".shipped" / "course.json").read_text())["amllab"] == "0.1.0"
    assert not list(root.rglob(".draft-of-*"))
    upgraded(root)
    assert (root / MASTER).read_bytes() == SHIPPED.replace(FIRST, FIRST + b"# new\n", 1) + b"# mine\n"
    assert (root / PROBES).read_bytes().count(b"# new\n") == 1
    assert upgraded(root).writes == {}


def test_upgrade_disk_full(root: Path, release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """If not all drafts can be written, no file is replaced."""
    release.publish({PROBES: changed(PROBES, b"\nimport", b"\n# new\nimport")})
    before, made = contents(root), 0
    drafts = write_files.tempfile.mkstemp

    def full(**options: object) -> tuple[int, str]:
        nonlocal made
        made += 1
        if made == 3:
            raise OSError(28, "No space left on device")
        return drafts(**options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(write_files.tempfile, "mkstemp", full)
    with pytest.raises(OSError, match="No space left"):
        upgraded(root)
    assert contents(root) == before


def test_upgrade_drafts_stay_out_of_the_release(root: Path) -> None:
    """No draft is next to a master text, where nbgrader would copy it to the release."""
    for name in (MASTER, f"solutions/{ASSIGNMENT}/x.ipynb"):
        assert write_files._draft_folder(root, root / name) == (root / name).parent.parent
    assert write_files._draft_folder(root, root / "README.md") == root


def test_upgrade_of_other_folders(tmp_path: Path, release: Release) -> None:
    """A course whose configuration names another folder for master texts, on another drive, is upgraded there."""
    root = tmp_path / "a"
    new_course(root, [ASSIGNMENT])
    shutil.move(root / "source", tmp_path / "texts")
    edit(root, "nbgrader_config.py", b'source_directory = "source"', f'source_directory = "{tmp_path}/texts"'.encode())
    release.publish({MASTER: SHIPPED.replace(FIRST, FIRST + b"# new\n", 1)})
    assert upgraded(root).outcomes[MASTER].what == "updated"
    assert b"# new\n" in (tmp_path / "texts" / ASSIGNMENT / f"{LAB}.py").read_bytes()
    assert not (root / "source").exists()


def test_upgrade_keeps_links_and_permissions(root: Path, tmp_path: Path, release: Release) -> None:
    """A master text that is a link stays one, and permissions stay."""
    (root / MASTER).rename(tmp_path / "elsewhere.py")
    (root / MASTER).symlink_to(tmp_path / "elsewhere.py")
    (root / PROBES).chmod(0o600)
    release.publish(
        {
            MASTER: SHIPPED.replace(FIRST, FIRST + b"# new\n", 1),
            PROBES: changed(PROBES, b"\nimport", b"\n# new\nimport"),
        }
    )
    upgraded(root)
    assert (root / MASTER).is_symlink()
    assert b"# new\n" in (tmp_path / "elsewhere.py").read_bytes()
    assert (root / PROBES).stat().st_mode & 0o777 == 0o600


def test_upgrade_folder_in_place_of_file(root: Path) -> None:
    """A folder with the name of a file is named, and nothing is written."""
    (root / PROBES).unlink()
    (root / PROBES).mkdir()
    with pytest.raises(IsADirectoryError, match=r"probes\.py is a folder"):
        upgraded(root)


def test_upgrade_one_at_a_time(root: Path) -> None:
    """A second upgrade at the same time is refused."""
    from autograder.authoring.drafts import locked

    with locked(root), pytest.raises(CourseError, match="another upgrade of a course is running"):
        upgraded(root)


def test_upgrade_of_a_clone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clone of the repository is upgraded with Git, and the message says so."""
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    with contextlib.chdir(tmp_path):
        assert main(["upgrade-course"]) == 2
    assert "git pull" in capsys.readouterr().err


def test_other_version_is_noted(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands say that the installed version is another one than that of the course's labs, once."""
    from autograder import course_version

    monkeypatch.setattr(course_version, "version", lambda package: "9.0")
    monkeypatch.delenv("AMLLAB_VERSION_NOTED", raising=False)
    Course.find(root)  # as a command in the folder finds it
    with contextlib.chdir(root):
        main(["scores", "nothing"])
        main(["scores", "nothing"])
    monkeypatch.delenv("AMLLAB_VERSION_NOTED")
    note = "this course has the labs of amllab 0.1.0, and 9.0 is installed: run 'autograder upgrade-course'"
    assert capsys.readouterr().err.count(note) == 1
