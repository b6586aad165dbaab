"""Student, teaching assistant and class report in headless Chromium: JupyterLab, formgrader and saved pages.

``AMLLAB_SCREENSHOTS=docs/screenshots pytest tests/browser/test_browser.py`` takes screenshots for the documentation.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import nbformat
import pytest
from nbformat import NotebookNode
from nbgrader.api import Gradebook

from amllab.lab import find_lab
from autograder.checks.transfer_learning.corpus import PLAIN
from autograder.checks.transfer_learning.corpus.styles.plain import CORRECT
from autograder.labs.corpus import corpus_of
from tests.helpers.notebooks import notebook_of

pytest.importorskip("playwright", reason="the browser tests need playwright: pip install playwright")

from tests.conftest import ASSIGNMENT, NOTEBOOK, ROOT, autograder_cli, nbgrader, new_course, submit
from tests.helpers.jupyter import (
    RUN_MILLISECONDS,
    TOKEN,
    Browser,
    Notebook,
    Page,
    chromium,
    expect,
    faint,
    hard_to_read,
    jupyter,
    picture,
)

# its slice takes "the last 0" for all layers, and n_trainable is not validated
CLASSIC = """def freeze_layers(model: nn.Module, n_trainable: int) -> nn.Module:
    for layer in layers_of(model)[:-n_trainable]:
        for parameter in layer.parameters():
            parameter.requires_grad = False
    return model
"""
TRAINING = """batches = [(torch.randn(16, 3, 32, 32), torch.randint(5, (16,))) for _ in range(4)]
model = build_transfer_model("net6", 5, 3)
history = train_with_early_stopping(model, batches, batches[:2], max_epochs=500, patience=500)
print(len(history["val_loss"]), "epochs, best", history["best_epoch"], type(model).__name__)
"""
# mistakes in the other labs whose code runs without any error, and what the panel of the check says about each
SILENT = {
    "self-supervised-learning": ("nt_xent_loss", "loss_itself_not_masked", "is it one of its own candidates?"),
    "meta-learning": ("maml_adapt", "maml_create_graph_missing", "as with first_order=True"),
    "knowledge-distillation": ("distill", "distill_answers_computed_once", "each pass gives new ones"),
}
SOLVED = ROOT / "solutions" / ASSIGNMENT / NOTEBOOK


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(RUN_MILLISECONDS)  # other tests keep the machine busy
    yield page
    page.close()


@pytest.fixture(scope="module")
def desk(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Yield a student's folder, and the address of the JupyterLab that runs in it."""
    folder = tmp_path_factory.mktemp("student")
    shutil.copy(ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, folder)
    with jupyter(folder, tmp_path_factory.mktemp("home")) as address:
        yield folder, address


def code_of(exercise: str) -> str:
    """Return the reference solution's code of an exercise."""
    (found,) = [c for c in nbformat.read(SOLVED, 4).cells if c.metadata.get("nbgrader", {}).get("grade_id") == exercise]
    return str(found.source)


def save(page: Page) -> None:
    with page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url):
        page.keyboard.press("Control+s")


@pytest.mark.slow
@pytest.mark.parametrize("assignment", SILENT)
def test_student_reads_about_a_mistake(browser: Browser, page: Page, tmp_path: Path, assignment: str) -> None:
    """In each lab, a mistake that raises no error is named in the panel of its check, which is readable."""
    page.set_viewport_size({"width": 1200, "height": 1400})  # for the whole panel
    lab, (exercise, mistake, said) = find_lab(assignment), SILENT[assignment]
    (wrong,) = [solution for solution in corpus_of(lab).wrong if solution.name == mistake]
    folder = tmp_path / "student"
    folder.mkdir()
    shutil.copy(ROOT / "assignments" / assignment / f"{lab.notebook}.ipynb", folder)
    with jupyter(folder, tmp_path / "home") as address:
        notebook = Notebook(page, address, f"{lab.notebook}.ipynb")
        notebook.run(notebook.cell("from amllab import"))
        function = notebook.cell(f"def {exercise}(")
        notebook.write(function, wrong.sources[exercise].strip())
        notebook.run(function)
        check = notebook.cell(f'check("{exercise}")')
        panel = notebook.run(check).inner_text()
        assert said in panel
        assert "Traceback" not in panel
        picture(check, f"check-{assignment}")
        assert hard_to_read(check) == {}


@pytest.mark.slow
def test_student_solves_and_trains(desk: tuple[Path, str], page: Page) -> None:
    """A student fixes a failed check and interrupts a training in JupyterLab; both displays are readable."""
    folder, address = desk
    notebook = Notebook(page, address, NOTEBOOK)
    notebook.run(notebook.cell("import copy"))

    notebook.write(notebook.cell("def freeze_layers"), CLASSIC)
    notebook.run(notebook.cell("def freeze_layers"))
    check = notebook.cell('check("freeze_layers")')
    panel = notebook.run(check).inner_text()
    assert "6 of 10 public points; hidden checks give 10 more" in panel
    assert "freeze_layers(model, 0) leaves none trainable" in panel
    assert "Traceback" not in panel
    picture(check, "check")
    assert hard_to_read(check) == {}

    for exercise in ("freeze_layers", "build_transfer_model", "train_with_early_stopping"):
        cell = notebook.cell(f"def {exercise}(")
        notebook.write(cell, code_of(exercise))
        notebook.run(cell)
    assert "10 of 10 public points" in notebook.run(check).inner_text()

    notebook.write(notebook.cell("plots.frozen("), TRAINING)
    training = notebook.cell("history = train_with_early_stopping(model, batches")
    notebook.start(training)
    live = training.locator(".jp-OutputArea")
    live.get_by_text(re.compile(r"epoch 1\d:[^×]+best \d\.\d+ in epoch \d+")).wait_for()
    picture(training, "training")
    page.get_by_role("button", name=re.compile("Interrupt the kernel")).click()
    text = notebook.wait(training).inner_text()
    assert "stopped by an interrupt" in text
    assert re.search(r"\d+ epochs, best \d+ \w+", text), text
    assert "Traceback" not in text

    page.get_by_text("Settings", exact=True).click()
    page.get_by_text("Theme", exact=True).click()
    page.get_by_text("JupyterLab Dark", exact=True).click()
    page.locator("body[data-jp-theme-light=false]").wait_for(state="attached")
    for cell in (check, training):
        assert hard_to_read(cell) == {}
    picture(training, "dark")

    save(page)
    stored = nbformat.read(folder / NOTEBOOK, 4)
    (kept,) = [cell for cell in stored.cells if cell.source == TRAINING]
    shown = [output.data for output in kept.outputs if output.output_type == "display_data"]
    assert len(shown) == 1
    assert shown[0].keys() == {"text/plain"}
    assert "stopped by an interrupt" in shown[0]["text/plain"]


@pytest.mark.slow
def test_preflight_finds_calling_notebook(desk: tuple[Path, str], page: Page) -> None:
    """The preflight checks the notebook that it is called from, and asks to save it first."""
    folder, address = desk
    shutil.copy(ROOT / "assignments" / ASSIGNMENT / NOTEBOOK, folder / "mine.ipynb")
    notebook = Notebook(page, address, "mine.ipynb")
    notebook.write(notebook.cell("plots.frozen("), "import amllab\n\namllab.preflight()")
    preflight = notebook.cell("amllab.preflight()")
    assert "the file mine.ipynb does not contain it yet" in notebook.run(preflight).inner_text()
    save(page)
    text = notebook.run(preflight).inner_text()
    assert "mine.ipynb" in text
    assert "freeze_layers" in text
    assert hard_to_read(preflight) == {}
    picture(preflight, "preflight")


@pytest.fixture(scope="module")
def pages(graded: Path, tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> dict[str, str]:
    """Return the pages to open from disk: the class report, the report of similar submissions, and feedback."""
    alike = new_course(tmp_path_factory.mktemp("alike"))
    for student in ("ada", "ben"):
        submit(alike, student, notebook_of(CORRECT[0], release))
    found = {}
    for name, course, page in (
        ("report", graded, f"{ASSIGNMENT}.html"),
        ("similar", alike, f"{ASSIGNMENT}-similar.html"),
    ):
        done = autograder_cli(course, name, ASSIGNMENT)
        assert done.returncode == 0, done.stderr
        found[name] = (course / "reports" / page).as_uri()
    done = nbgrader(graded, "generate_feedback", ASSIGNMENT)
    assert done.returncode == 0, done.stderr
    found["feedback"] = (graded / "feedback" / "ada" / ASSIGNMENT / NOTEBOOK).with_suffix(".html").as_uri()
    return found


@pytest.mark.parametrize("name", ["report", "similar", "feedback"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("light", 420), ("dark", 1200)])
def test_page_readable_from_disk(
    browser: Browser, pages: dict[str, str], name: str, scheme: Literal["light", "dark"], width: int
) -> None:
    """A page opened from disk is readable in light, narrow and dark windows and loads nothing else."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(pages[name])
    assert asked == [pages[name]]  # the page loads nothing else
    assert said == []
    assert faint(page.locator("body")) == {}
    # wide tables and code scroll, never the page
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    if name == "report":
        assert page.get_by_role("img", name="Distribution of total scores").is_visible()
        assert page.get_by_role("img").count() == page.locator("svg").count()
    elif name == "feedback":
        assert page.get_by_text("not graded yet").first.is_visible()
        assert page.locator("math").first.is_visible()
        assert page.evaluate("[...document.images].every(image => image.alt && image.naturalWidth > 0)")
    else:
        assert page.get_by_text("ada").first.is_visible()
        assert page.locator("pre").count() == 2
    if (scheme, width) == ("light", 1200):
        picture(page, name)
    page.close()


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, release: NotebookNode) -> Path:
    """Return a graded class of two: Ada did the experiments and answered, Ben submitted plain text."""
    course = new_course(tmp_path_factory.mktemp("course"))
    solved = nbformat.read(SOLVED, 4)
    ada = nbformat.from_dict(release)
    for mine, done in zip(ada.cells, solved.cells, strict=True):
        if "experiment" in mine.metadata.get("tags", []):
            mine.outputs = done.outputs
        if mine.metadata.get("nbgrader", {}).get("grade_id") == "reflection":
            mine.source = "**1. What did transfer give?**\n\nSixteen points of accuracy: $74.8 > 58.2$ %."
        if mine.metadata.get("nbgrader", {}).get("grade_id") == "freeze_layers":
            mine.source = PLAIN["freeze_layers"]
    submit(course, "ada", ada)
    submit(course, "ben", b"I could not get it to work, sorry!")
    done = nbgrader(course, "autograde", ASSIGNMENT)
    assert done.returncode == 0, done.stderr
    return course


def test_formgrader_manual_grading(graded: Path, page: Page, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A teaching assistant sees plots and reports in formgrader and grades the reflection."""
    with jupyter(graded, tmp_path_factory.mktemp("home")) as address:
        page.goto(f"{address}/formgrader?token={TOKEN}")
        page.get_by_role("link", name="Manual Grading").click()
        page.get_by_role("link", name=ASSIGNMENT).click()
        page.get_by_role("link", name=NOTEBOOK.removesuffix(".ipynb")).click()
        page.get_by_role("link", name="Submission #1").click()
        page.locator("#reflection").wait_for()
        # one submission has plots, and formgrader shows submissions in its own order
        if not page.locator("img").count():
            page.get_by_text("Next").first.click()
        page.locator("img").first.wait_for()
        page.locator("#reflection").scroll_into_view_if_needed()
        page.wait_for_load_state()
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        described = page.locator("img").evaluate_all("images => images.map(image => image.alt)")
        assert any("Accuracy by number of trainable layers" in text for text in described)
        report = page.get_by_text("points in", exact=False).first.inner_text()
        assert re.search(r"\d+ of \d+ points in \d+ checks", report), report
        # the automatic score, which formgrader fetches after the page has loaded
        expect(page.locator("#check_freeze_layers")).to_have_attribute("placeholder", "20", timeout=RUN_MILLISECONDS)
        assert page.locator("math").first.is_visible()
        assert page.evaluate("[...document.images].every(image => getComputedStyle(image).borderTopWidth === '0px')")
        page.locator("#reflection-comment").fill("Say how far 500 images can be trusted.")
        with page.expect_response(re.compile("/formgrader/api/comment/")):
            page.locator("#reflection-comment").press("Tab")
        # points by question: their sum is the score, which the last one saves
        parts = page.locator(".grader-notes input[data-part]")
        parts.first.focus()
        for part, text in zip(parts.all(), ("2", "3.5", "2"), strict=True):
            expect(part).to_be_focused()  # Tab goes on to the next part
            page.keyboard.insert_text(text)
            with page.expect_response(re.compile("/formgrader/api/comment/")):
                page.keyboard.press("Tab")
        expect(page.locator("#reflection")).to_have_value("7.5")
        page.locator("#reflection").focus()
        page.wait_for_timeout(1000)  # the page scrolls there, and what says that it was saved disappears
        picture(page, "formgrader")
        page.reload()
        expect(parts.nth(1)).to_have_value("3.5", timeout=RUN_MILLISECONDS)
    with Gradebook(f"sqlite:///{graded}/gradebook.db") as gradebook:
        submission = gradebook.find_submission(ASSIGNMENT, "ada")
        (reflection,) = [grade for grade in submission.notebooks[0].grades if grade.name == "reflection"]
        (comment,) = [c for c in submission.notebooks[0].comments if c.name == "reflection"]
        assert (reflection.manual_score, reflection.needs_manual_grade) == (7.5, False)
        line = "Points: Question 1: 2 of 3; Question 2: 3.5 of 4; Question 3: 2 of 3"
        assert comment.comment == f"{line}\n\nSay how far 500 images can be trusted."
