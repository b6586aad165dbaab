"""Ids that ``nbgrader zip_collect`` assigns are stable, no matter who submits later."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from autograder.collect.names import letters, recognise
from autograder.collect.record import FILE, Known, Person, Record, give_ids, key_of
from autograder.exports.grades import StudentGrade
from autograder.exports.roster import Person as Row
from autograder.exports.roster import Sheet, fill
from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, nbgrader, new_course

MOODLE = "{}_{}_assignsubmission_file_"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    (tmp_path / "assignments").symlink_to(ROOT / "assignments")
    return tmp_path


def collect(course: Path, files: dict[str, str], *, status: int = 0) -> str:
    """Replace earlier downloads by one, collect it, and return the log."""
    archive = course / "downloaded" / ASSIGNMENT / "archive"
    shutil.rmtree(archive, ignore_errors=True)
    archive.mkdir(parents=True)
    with zipfile.ZipFile(archive / "submissions.zip", "w") as download:
        for name, content in files.items():
            download.writestr(name, content)
    done = nbgrader(course, "zip_collect", ASSIGNMENT, "--force")
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def submitted(course: Path) -> dict[str, str]:
    return {path.parent.parent.name: path.read_text() for path in course.glob(f"submitted/*/{ASSIGNMENT}/*.ipynb")}


def test_identity_stable_across_downloads(course: Path) -> None:
    """Students in later downloads do not change the ids of earlier ones."""
    collect(course, {f"smithjohn_1006_2006_{NOTEBOOK}": "first john"})
    assert submitted(course) == {"smithjohn": "first john"}
    collect(
        course,
        {
            f"smithjohn_1006_3006_{NOTEBOOK}": "first john again",
            f"smithjohn_1007_2007_{NOTEBOOK}": "other john",
            f"smithjohn_LATE_1005_2005_{NOTEBOOK}": "third john",
        },
    )
    johns = {"smithjohn": "first john again", "smithjohn-1007": "other john", "smithjohn-1005": "third john"}
    assert submitted(course) == johns
    # one is not in the download, one has another name
    collect(course, {f"doejane_1007_4007_{NOTEBOOK}": "jane", f"smithjohn_1005_4005_{NOTEBOOK}": "third john again"})
    assert submitted(course) == johns | {"smithjohn-1007": "jane", "smithjohn-1005": "third john again"}


def test_identity_from_gradebook(tmp_path: Path) -> None:
    """Students in the gradebook are matched by their number or name."""
    course = new_course(tmp_path)
    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        gradebook.add_student("ab12", first_name="Ada", last_name="Lovelace", lms_user_id="31")
        gradebook.add_student("cd34", first_name="Ben", last_name="Ölçer")
        gradebook.add_student("smithjohn")  # already graded before there was a record
        gradebook.add_student("curiemarie", lms_user_id="99")
    log = collect(
        course,
        {
            f"kingada_31_1_{NOTEBOOK}": "ada, by her number",
            f"ölçerben_32_2_{NOTEBOOK}": "ben, by his name",
            f"smithjohn_33_3_{NOTEBOOK}": "john",
            f"curiemarie_34_4_{NOTEBOOK}": "another marie",
        },
    )
    assert submitted(course) == {
        "ab12": "ada, by her number",
        "cd34": "ben, by his name",
        "smithjohn": "john",
        "curiemarie-34": "another marie",
    }
    assert "cd34: matched to the gradebook by the name ölçerben" in log


def test_record_damaged_stops_collect(course: Path) -> None:
    """A damaged record of ids stops the collection, with the remedy."""
    (course / FILE).write_text("{")
    log = collect(course, {f"ada_1_2_{NOTEBOOK}": "ada"}, status=1)
    assert f"Nothing was collected: {FILE} cannot be read" in log
    assert f"mv {FILE} {FILE}.old" in log
    assert not (course / "submitted").exists()


def people(assignment: str, *names: str) -> list[Person]:
    found = [recognise([name], ["lab"]) for name in names]
    return [
        Person(key_of(owner, assignment), owner.platform, owner.person, owner.id, letters(owner.name))
        for owner in found
        if owner is not None
    ]


def give(record: Record, assignment: str, *names: str, roster: tuple[Known, ...] = ()) -> list[str]:
    wanted = people(assignment, *names)
    ids, _ = give_ids(wanted, record, roster)
    return [ids[person.key] for person in wanted]


def test_moodle_numbers_per_assignment() -> None:
    """Moodle's numbers identify students within one assignment only."""
    record = Record()
    first = [MOODLE.format("Ada Lovelace", 31), MOODLE.format("Ben Bo", 32)]
    assert give(record, "lab1", *[f"{name}x.ipynb" for name in first]) == ["ada_lovelace", "ben_bo"]
    # the next assignment has other numbers; one of them belonged to somebody else before
    second = [MOODLE.format("Ben Bo", 31), MOODLE.format("Ada Lovelace", 77), MOODLE.format("Carl Cy", 32)]
    assert give(record, "lab2", *[f"{name}x.ipynb" for name in second]) == ["ben_bo", "ada_lovelace", "carl_cy"]
    # a second Ada there does not take the first one's id
    assert give(record, "lab2", f"{MOODLE.format('Ada Lovelace', 78)}x.ipynb") == ["ada_lovelace-78"]
    assert give(record, "lab1", f"{first[0]}x.ipynb") == ["ada_lovelace"]


def test_identity_anonymous_names() -> None:
    """Anonymous names do not identify students; their numbers do."""
    record = Record()
    hidden = [f"{MOODLE.format('Participant', number)}x.ipynb" for number in (5, 6)]
    assert give(record, "lab1", *hidden) == ["participant-5", "participant-6"]
    anonymous = ["anon_AbC12_9_x.ipynb", "anon_aBc12_10_x.ipynb", "LATE_anon_12345_11_x.ipynb"]
    assert len(set(give(record, "lab1", *anonymous))) == 3
    assert give(record, "lab1", "x_12345_12_x.ipynb") == ["x"]  # a person's number, not an anonymous one


def test_canvas_numbers_across_assignments(tmp_path: Path) -> None:
    """Canvas's numbers identify students in all assignments."""
    record = Record()
    assert give(record, "lab1", "smithjohn_1006_1_x.ipynb", "smithjohn_1007_2_x.ipynb") == [
        "smithjohn-1006",
        "smithjohn-1007",
    ]
    record.write(tmp_path)
    again = Record.read(tmp_path)
    assert give(again, "lab2", "smithjohn_1007_3_x.ipynb", "smithjohn_1_4_x.ipynb") == ["smithjohn-1007", "smithjohn"]
    assert again.numbers("smithjohn-1007") == ["1007"]


@pytest.mark.parametrize(
    "text", ["[]", '{"format": 2}', '{"format": 1, "people": [], "uploads": {}}', "\0", "[" * 10**5]
)
def test_record_damaged(tmp_path: Path, text: str) -> None:
    """Damaged records of ids are refused."""
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match="cannot be read"):
        Record.read(tmp_path)


def test_export_matches_rows_by_number() -> None:
    """Exports find the rows of students with the same name by their numbers."""
    sheet = Sheet(["ID", "Name", "Grade"], [["1006", "John Smith", ""], ["1007", "John Smith", ""]], ",", False, "\n")
    found = [
        StudentGrade("smithjohn", "", "", "", "", 5.0, numbers=["1006"]),
        StudentGrade("smithjohn-1007", "", "", "", "", 7.0, numbers=["1007"]),
    ]
    assert fill(sheet, 2, found, lambda row: Row([row[0]], row[1])) == []
    assert json.dumps(sheet.rows) == json.dumps([["1006", "John Smith", "5"], ["1007", "John Smith", "7"]])
