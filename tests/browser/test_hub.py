"""A course on a real JupyterHub: accounts, proxy, exchange and formgrader as docs/hub.md says, in headless Chromium."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from nbgrader.api import Gradebook

pytest.importorskip("playwright", reason="the browser tests need playwright: pip install playwright")

from tests.helpers.course_copy import blocks_of
from tests.helpers.hub import COURSE, GRADER, PAGE, STUDENTS, Hub, hub, missing
from tests.helpers.hub_walk import ASSIGNMENT, COMMENT, Grader, Walk, walk_through
from tests.helpers.jupyter import Browser, chromium, picture

NO_HUB = missing()
with_hub = pytest.mark.skipif(bool(NO_HUB), reason=NO_HUB)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with hub(tmp_path_factory.mktemp("hub"), ASSIGNMENT) as running:
        yield running


@pytest.fixture(scope="module")
def walk(site: Hub, browser: Browser) -> Walk:
    return walk_through(site, browser)


def test_settings_of_the_page_exist() -> None:
    """Each file of docs/hub.md can be read, and JupyterHub and nbgrader know every setting in it."""
    app = pytest.importorskip("jupyterhub.app", reason="no jupyterhub: pip install --group hub")
    from jupyterhub.auth import PAMAuthenticator
    from jupyterhub.spawner import Spawner
    from nbgrader.coursedir import CourseDirectory
    from nbgrader.exchange.default import Exchange

    known = (app.JupyterHub, PAMAuthenticator, Spawner, CourseDirectory, Exchange)
    classes = {found.__name__: found.class_traits(config=True) for found in known}
    names = set()
    for block in blocks_of(PAGE):
        if block.language == "json":
            assert json.loads(block.text)
        if block.language == "python":
            names |= set(re.findall(r"^c\.(\w+)\.(\w+)", block.text, re.M))
            assert ast.parse(block.text)
    assert len(names) > 8
    assert [name for name in names if name[1] not in classes[name[0]]] == []


@with_hub
@pytest.mark.slow
def test_term_on_a_hub(walk: Walk) -> None:
    """Release, fetch, work, submit twice, collect, autograde, grade manually, release and fetch feedback."""
    with Gradebook(f"sqlite:///{walk.hub.course}/gradebook.db") as gradebook:
        found = {submission.student.id: submission for submission in gradebook.assignment_submissions(ASSIGNMENT)}
        assert set(found) == set(STUDENTS)
        automatic = {
            name: sum(grade.auto_score or 0 for notebook in submission.notebooks for grade in notebook.grades)
            for name, submission in found.items()
        }
        by_hand = [
            grade.manual_score
            for submission in found.values()
            for notebook in submission.notebooks
            for grade in notebook.grades
            if grade.name == "reflection"
        ]
        late = {name: submission.timestamp for name, submission in found.items()}
    assert automatic == {"ada": 90.0, "ben": 0.0}  # the second attempt of ada counts
    assert sorted(by_hand) == [3.0, 7.5]
    attempts = sorted(walk.hub.exchange.glob("inbound/ada+*"))
    assert len(attempts) == 2  # the first one is still there
    assert str(late["ada"]) in attempts[1].name
    (feedback,) = walk.hub.folder.glob(f"home/ada/{ASSIGNMENT}/feedback/*/*.html")
    assert COMMENT in feedback.read_text(encoding="utf-8")


@with_hub
@pytest.mark.slow
def test_account_that_grades(walk: Walk) -> None:
    """The account that grades isolates submissions without privileges, and keeps each attempt that was graded."""
    command, course = "/opt/graders/bin/autograder", f"/home/{GRADER}/course"
    done = walk.hub.run(GRADER, command, "explain", ASSIGNMENT, "ada", cwd=course)
    assert done.returncode == 0, done.stderr
    assert re.search(r"isolation +namespaces", done.stdout), done.stdout
    done = walk.hub.run(GRADER, command, "attempts", ASSIGNMENT, cwd=course)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    # the first submission of ada was replaced before it was graded
    assert [(row[0], row[1], *row[-2:]) for row in rows] == [
        ("ada", "1", "90", f"attempts/{ASSIGNMENT}/ada/1"), ("ben", "1", "0", f"attempts/{ASSIGNMENT}/ben/1"),
    ]  # fmt: skip


@with_hub
@pytest.mark.slow
def test_files_belong_to_who_wrote_them(walk: Walk) -> None:
    """The course's files belong to the account that grades, those of students to them, and nobody else can write."""
    owners = {
        line.split(":")[0]: int(line.split(":")[2])
        for line in (walk.hub.folder / "etc" / "passwd").read_text().splitlines()
    }
    places = {GRADER: walk.hub.course, **{name: walk.hub.folder / "home" / name for name in STUDENTS}}
    for account, place in places.items():
        files = list(place.rglob("*"))
        assert len(files) > 3
        assert [path for path in files if path.lstat().st_uid != owners[account]] == []
    opened = [path for path in walk.hub.course.rglob("*") if path.stat().st_mode & 0o002]
    assert opened == []


@with_hub
@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        f"cat /home/{GRADER}/course/gradebook.db",
        "ls /home/ben",
        f"ls /srv/nbgrader/exchange/{COURSE}/inbound",
        f"ls /srv/nbgrader/exchange/{COURSE}/feedback",
        f"mv /srv/nbgrader/exchange/{COURSE} /srv/nbgrader/exchange/mine",
        f"touch /srv/nbgrader/exchange/{COURSE}/outbound/{ASSIGNMENT}/more.txt",
        "/opt/students/bin/python -c 'import autograder'",
        "cat /srv/jupyterhub/jupyterhub.sqlite",
        "cat /srv/jupyterhub/jupyterhub_cookie_secret",
    ],
)
def test_student_has_no_access(walk: Walk, command: str) -> None:
    """A student cannot read or change the course, other students' work, the exchange or the hub's secrets."""
    done = walk.hub.run("ada", "sh", "-c", command)
    assert done.returncode != 0, done.stdout
    assert re.search("denied|not permitted|No module named", done.stderr), done.stderr


@with_hub
@pytest.mark.slow
def test_kernels_are_private(walk: Walk) -> None:
    """Other accounts cannot listen to a student's kernel: it encrypts, and only its owner may read the keys."""
    files = list(walk.hub.folder.glob("home/ada/.local/share/jupyter/runtime/kernel-*.json"))
    assert files
    assert [file for file in files if "curve_secretkey" not in json.loads(file.read_text())] == []
    assert [file for file in files if file.stat().st_mode & 0o077] == []
    without, keys = BlockingKernelClient(), json.loads(files[0].read_text())
    without.load_connection_info({name: value for name, value in keys.items() if not name.startswith("curve")})
    without.start_channels()
    with pytest.raises(RuntimeError):
        without.wait_for_ready(timeout=5)
    without.stop_channels()


@with_hub
@pytest.mark.slow
def test_student_cannot_open_formgrader(site: Hub, browser: Browser) -> None:
    """The course's formgrader refuses an account that is in none of its groups."""
    ada = Grader(Walk(site, browser), "ada")
    ada.log_in(f"/services/{COURSE}/")
    ada.page.get_by_text("403").first.wait_for()
    assert "manage_assignments" not in ada.page.url


def open_panel(teacher: Grader, address: str) -> None:
    """Open formgrader as a panel of the JupyterLab that belongs to the course."""
    page = teacher.page
    page.goto(address)
    page.get_by_role("menuitem", name="Nbgrader").click()
    page.get_by_role("menuitem", name="Formgrader", exact=True).click()
    page.locator("iframe").wait_for(state="attached")


@with_hub
@pytest.mark.slow
def test_formgrader_panel_is_blocked(site: Hub, browser: Browser) -> None:
    """Without subdomains, JupyterHub forbids formgrader in a panel of JupyterLab; the page of its own works."""
    teacher = Grader(Walk(site, browser), "instructor")
    teacher.open_formgrader()
    open_panel(teacher, f"{site.address}/services/{COURSE}/lab")
    teacher.page.wait_for_timeout(2000)
    assert any("frame-ancestors 'none'" in text for text in teacher.said), teacher.said
    assert teacher.page.frame_locator("iframe").get_by_text("Manage Assignments").count() == 0
    teacher.page.goto(f"{teacher.formgrader}/manage_assignments")
    link = teacher.page.locator(".name a").get_attribute("href")
    assert link == f"/tree/./source/{ASSIGNMENT}"
    teacher.page.goto(f"{site.address}{link}")
    teacher.page.get_by_text("404").first.wait_for()


@with_hub
@pytest.mark.slow
def test_formgrader_panel_with_subdomains(tmp_path: Path, browser: Browser) -> None:
    """With a subdomain for each server, formgrader works in a panel of JupyterLab, and can release."""
    with hub(tmp_path, ASSIGNMENT, subdomains=True) as site:
        teacher = Grader(Walk(site, browser), "instructor")
        teacher.log_in("/hub/home")
        teacher.page.get_by_role("button", name="Services").click()
        link = teacher.page.get_by_role("link", name=COURSE).get_attribute("href")
        assert link == f"//{COURSE}--service.hub.localhost/services/{COURSE}/"
        port = site.address.rpartition(":")[2]  # which the hub's links leave out
        teacher.page.set_viewport_size({"width": 1500, "height": 800})  # formgrader's columns are next to each other
        open_panel(teacher, f"http:{link}lab".replace(".localhost/", f".localhost:{port}/"))
        panel = teacher.page.frame_locator("iframe")
        panel.locator(".release a").click()
        panel.get_by_text("Successfully released").wait_for()
        panel.locator(".modal-footer button").click()
        panel.locator(".modal").wait_for(state="detached")
        picture(teacher.page, "hub-panel")
        assert (site.exchange / "outbound" / ASSIGNMENT).is_dir()
