"""A term on a hub in one walk, with the mouse: release, fetch, work, submit twice, collect, grade, feedback.

An instructor, a teaching assistant and two students each have a browser of their own. Every step is timed, and checks
what its person would look at.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, Locator, Page, expect

from tests.helpers.hub import COURSE, PASSWORD, ROOT, Hub
from tests.helpers.jupyter import RUN_MILLISECONDS, Notebook, picture

ASSIGNMENT, NOTEBOOK = "transfer-learning", "transfer_learning.ipynb"
# its slice takes "the last 0" for all layers, and n_trainable is not validated
WRONG = """def freeze_layers(model: nn.Module, n_trainable: int) -> nn.Module:
    for layer in layers_of(model)[:-n_trainable]:
        for parameter in layer.parameters():
            parameter.requires_grad = False
    return model
"""
ANSWER = "**1. What did transfer give?** Sixteen points of accuracy: 74.8 % against 58.2 %."
COMMENT = "Say how far 500 images can be trusted."
EXERCISES = ("freeze_layers", "build_transfer_model", "train_with_early_stopping")


@dataclass
class Walk:
    """A walk through a hub.

    Attributes:
        hub: the hub.
        browser: the browser in which each person gets a context of their own.
        say: is called with a line for each step.
        steps: seconds, person and title of each step.
    """

    hub: Hub
    browser: Browser
    say: Callable[[str], None] = print
    steps: list[tuple[float, str, str]] = field(default_factory=list)

    @contextmanager
    def step(self, who: str, title: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except BaseException:
            self.say(f"  FAILED  {who:<10}  {title}")
            raise
        self.steps.append((time.perf_counter() - began, who, title))
        self.say(f"{self.steps[-1][0]:6.1f} s  {who:<10}  {title}")


class Person:
    """Somebody with an account and a browser.

    Args:
        walk: the walk.
        name: name of the account.
    """

    def __init__(self, walk: Walk, name: str) -> None:
        self.walk, self.hub, self.name = walk, walk.hub, name
        self.context = walk.browser.new_context(viewport={"width": 1200, "height": 800})
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(RUN_MILLISECONDS)
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))

    @property
    def server(self) -> str:
        return f"{self.hub.address}/user/{self.name}"

    @property
    def home(self) -> Path:
        return self.hub.folder / "home" / self.name

    def log_in(self, to: str) -> None:
        """Log in with the hub's form, and continue to an address below the hub's."""
        page = self.page
        page.goto(f"{self.hub.address}/hub/login?next={to}")
        page.locator("#username_input").fill(self.name)
        page.locator("#password_input").fill(PASSWORD)
        page.locator("#login_submit").click()

    def start_lab(self) -> None:
        self.log_in("/hub/spawn")
        self.page.wait_for_url(re.compile(rf"/user/{self.name}/lab"))
        self.page.locator("#jp-MainMenu, #jp-menu-panel").first.wait_for()


class Student(Person):
    """A student in JupyterLab."""

    def assignments(self) -> Locator:
        """Open nbgrader's list of assignments and return it."""
        self.page.goto(f"{self.server}/lab/workspaces/assignments?reset")
        menu = self.page.get_by_role("menuitem", name="Nbgrader")
        menu.click()
        self.page.get_by_role("menuitem", name="Assignment List").click()
        listed = self.page.locator("#nbgrader-assignment-list")
        listed.get_by_text(ASSIGNMENT).first.wait_for()
        self.page.locator(".jp-DirListing").wait_for()
        return listed

    def fetch(self) -> None:
        listed = self.assignments()
        listed.get_by_role("button", name="Fetch", exact=True).click()
        listed.get_by_role("button", name="Submit", exact=True).wait_for()

    def open(self) -> Notebook:
        return Notebook(self.page, self.server, f"{ASSIGNMENT}/{NOTEBOOK}")

    def answer(self, text: str) -> None:
        """Answer the question that a person grades."""
        cell = self.page.locator(".jp-MarkdownCell", has_text="YOUR ANSWER HERE").first
        cell.scroll_into_view_if_needed()
        cell.locator(".jp-RenderedMarkdown").dblclick()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Control+Enter")

    def save(self) -> None:
        with self.page.expect_response(
            lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url
        ):
            self.page.keyboard.press("Control+s")

    def submit(self) -> None:
        """Submit in the list of assignments, which then shows one submission more."""
        listed = self.assignments()
        submitted = listed.locator("#submitted_assignments_list .nested_list_item")
        before = submitted.count()
        listed.get_by_role("button", name="Submit", exact=True).click()
        expect(submitted).to_have_count(before + 1, timeout=RUN_MILLISECONDS)


class Grader(Person):
    """An instructor or a teaching assistant in the course's formgrader."""

    def open_formgrader(self) -> None:
        """Log in, and open the course's formgrader from the hub's menu of services."""
        self.log_in("/hub/home")
        self.page.get_by_role("button", name="Services").click()
        self.page.get_by_role("link", name=COURSE).click()
        self.page.wait_for_url(re.compile("/formgrader/manage_assignments"))
        self.page.get_by_text(ASSIGNMENT).first.wait_for()

    @property
    def formgrader(self) -> str:
        return f"{self.hub.address}/services/{COURSE}/formgrader"

    def click(self, column: str, said: str, *, student: str = "") -> str:
        """Press a button of a table and return the log that the message shows."""
        table = self.page.locator("#main-table tr", has_text=student or ASSIGNMENT)
        table.locator(f".{column} a").click()
        box = self.page.locator(".modal-content")
        box.wait_for()
        text = box.inner_text()
        assert said in text, text
        box.locator(".modal-footer button").click()
        box.wait_for(state="detached")
        return text

    def grade(self, submission: str, points: str) -> None:
        """Grade the reflection of a submission in formgrader."""
        page = self.page
        page.goto(f"{self.formgrader}/gradebook/{ASSIGNMENT}/{NOTEBOOK.removesuffix('.ipynb')}")
        page.locator("#main-table tr", has_text=submission).get_by_role("link").first.click()
        # formgrader fetches scores after the page has loaded, and replaces what was written before
        expect(page.locator("#check_freeze_layers")).to_have_attribute("placeholder", re.compile(r"\d"))
        for field_name, text, kind in (
            ("#reflection", points, "grade"),
            ("#reflection-comment", COMMENT, "comment"),
        ):
            page.locator(field_name).fill(text)
            with page.expect_response(re.compile(f"/formgrader/api/{kind}/")) as answer:
                page.locator(field_name).press("Tab")
            assert answer.value.ok, answer.value.status


def solved(exercise: str) -> str:
    """Return the code of an exercise from the solution."""
    cells = nbformat.read(ROOT / "solutions" / ASSIGNMENT / NOTEBOOK, 4).cells
    (found,) = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade_id") == exercise]
    return str(found.source)


def release(walk: Walk) -> Grader:
    """Let the instructor log in and release the lab in formgrader."""
    teacher = Grader(walk, "instructor")
    with walk.step("instructor", "logs in and opens the course's formgrader, a page of its own"):
        teacher.open_formgrader()
    with walk.step("instructor", "releases the lab"):
        teacher.click("release", "Successfully released")
        expect(teacher.page.locator(".status .label")).to_have_text("released")
        picture(teacher.page, "hub-released")
    return teacher


def work(walk: Walk) -> Student:
    """Let Ada fetch, work and submit a mistake, fix it and submit again."""
    ada = Student(walk, "ada")
    with walk.step("ada", "logs in, and JupyterLab starts"):
        ada.start_lab()
    with walk.step("ada", "fetches the lab"):
        ada.fetch()
    with walk.step("ada", "opens it; her first kernel starts"):
        notebook = ada.open()
    with walk.step("ada", "writes freeze_layers with a mistake and checks it"):
        notebook.run(notebook.cell("import copy"))
        notebook.write(notebook.cell("def freeze_layers"), WRONG)
        notebook.run(notebook.cell("def freeze_layers"))
        check = notebook.cell('check("freeze_layers")')
        panel = notebook.run(check).inner_text()
        assert "6 of 10 public points" in panel, panel
    with walk.step("ada", "runs the preflight"):
        notebook.write(notebook.cell("plots.frozen("), "import amllab\n\namllab.preflight()")
        ada.save()
        text = notebook.run(notebook.cell("amllab.preflight()")).inner_text()
        assert "build_transfer_model" in text, text
    with walk.step("ada", "submits"):
        ada.submit()
    with walk.step("ada", "fixes all functions, answers and saves"):
        notebook = ada.open()
        notebook.run(notebook.cell("import copy"))
        for exercise in EXERCISES:
            cell = notebook.cell(f"def {exercise}(")
            notebook.write(cell, solved(exercise))
            notebook.run(cell)
        ada.answer(ANSWER)
        assert "10 of 10 public points" in notebook.run(notebook.cell('check("freeze_layers")')).inner_text()
        ada.save()
    with walk.step("ada", "submits again"):
        ada.submit()
        ada.page.locator(".jp-DirListing-item").first.wait_for()
        picture(ada.page, "hub-submitted")
    return ada


def work_in_terminal(walk: Walk) -> Student:
    """Let Ben do the same with commands, as in a terminal of his server."""
    ben = Student(walk, "ben")
    with walk.step("ben", "fetches and submits with commands"):
        for command in ("fetch_assignment", "submit"):
            done = walk.hub.run("ben", "/opt/students/bin/nbgrader", command, ASSIGNMENT)
            assert done.returncode == 0, done.stderr
    return ben


def collect_and_grade(walk: Walk, teacher: Grader) -> None:
    """Collect and autograde in formgrader."""
    with walk.step("instructor", "collects: the latest submission of each student"):
        teacher.page.goto(f"{teacher.formgrader}/manage_assignments")
        log = teacher.click("collect", "Successfully collected")
        assert "Processing 2 submissions" in log, log
    with walk.step("instructor", "autogrades ben with formgrader's button"):
        teacher.page.goto(f"{teacher.formgrader}/manage_submissions/{ASSIGNMENT}")
        teacher.click("autograde", "Successfully autograded", student="ben")
    with walk.step("instructor", "autogrades the rest with the command"):
        command = ["/opt/graders/bin/nbgrader", "autograde", ASSIGNMENT]
        done = walk.hub.run("grader-aml", *command, cwd="/home/grader-aml/course")
        assert done.returncode == 0, done.stderr
        assert "2 submissions: 1 graded, 1 already graded" in done.stderr, done.stderr


def grade_by_hand(walk: Walk, teacher: Grader) -> Grader:
    """Let a teaching assistant and the instructor grade at the same time, in the same formgrader."""
    helper = Grader(walk, "ta")
    with walk.step("ta", "logs in and opens the same formgrader"):
        helper.open_formgrader()
    with walk.step("ta", "grades one reflection, while the instructor grades the other"):
        teacher.page.goto(f"{teacher.formgrader}/gradebook/{ASSIGNMENT}")
        helper.grade("Submission #1", "7.5")
        teacher.grade("Submission #2", "3")
    return helper


def give_feedback(walk: Walk, teacher: Grader, student: Student) -> None:
    """Generate and release feedback in formgrader; the student fetches and opens it."""
    with walk.step("instructor", "generates and releases feedback"):
        teacher.page.goto(f"{teacher.formgrader}/manage_assignments")
        teacher.click("generate-feedback", "Successfully generated feedback")
        teacher.click("release-feedback", "Successfully released feedback")
    with walk.step(student.name, "fetches the feedback and opens it in JupyterLab"):
        listed = student.assignments()
        listed.get_by_role("button", name="Fetch Feedback").click()
        listed.get_by_text("view feedback").wait_for()
        (page,) = student.home.glob(f"{ASSIGNMENT}/feedback/*/*.html")
        student.page.goto(f"{student.server}/lab/tree/{page.relative_to(student.home)}?reset")
        shown = student.page.frame_locator("iframe")
        shown.get_by_text(COMMENT).first.wait_for()


def walk_through(hub: Hub, browser: Browser, say: Callable[[str], None] = print) -> Walk:
    """Walk through a term, from the release to the feedback."""
    walk = Walk(hub, browser, say)
    teacher = release(walk)
    ada = work(walk)
    work_in_terminal(walk)
    collect_and_grade(walk, teacher)
    grade_by_hand(walk, teacher)
    give_feedback(walk, teacher, ada)
    return walk
