"""Similar code: copies are found whatever was changed on the surface, independent solutions are not listed."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.checks.transfer_learning.corpus import PLAIN, TRAIN
from autograder.checks.transfer_learning.corpus.styles import TRAINING_STYLES
from autograder.checks.transfer_learning.corpus.styles.plain import CORRECT
from autograder.checks.transfer_learning.corpus.typical import TYPICAL
from autograder.cli import main
from autograder.labs.corpus import Solution
from autograder.similarity.compare import MAX_CODE, THRESHOLD, compare, page, printable, release_code
from tests.conftest import ASSIGNMENT, ROOT, submit
from tests.helpers.notebooks import notebook_of

INDEPENDENT = [*CORRECT, *TRAINING_STYLES]
HOSTILE = "</pre></mark><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[2J\x00"
NAMES = {"best_loss": "lowest", "history": "log", "model": "net", "images": "xs", "labels": "ys", "hits": "correct",
         "optimizer": "opt", "layers": "stack", "total": "summed", "waited": "idle", "best_state": "kept"}  # fmt: skip


def code_of(variant: Solution) -> str:
    return "\n\n\n".join(variant.sources.get(cell, PLAIN[cell]).strip() for cell in PLAIN)


@pytest.fixture(scope="module")
def codes() -> dict[str, str]:
    """Solutions written independently of one another."""
    return {variant.name: code_of(variant) for variant in INDEPENDENT}


@pytest.fixture(scope="module")
def boilerplate(release: NotebookNode) -> str:
    return release_code(release)


def renamed(code: str) -> str:
    for old, new in NAMES.items():
        code = re.sub(rf"\b{old}\b", new, code)
    return code


def commented(code: str) -> str:
    lines = []
    for i, line in enumerate(code.splitlines()):
        if line.strip() and i % 3 == 0:
            lines.append(f"{line[: len(line) - len(line.lstrip())]}# step {i} of my own work")
        lines.append(f"{line}  # {i}" if line.strip() and not line.strip().startswith("#") else line)
    return "\n".join(lines)


def reordered(code: str) -> str:
    return "\n\n\n".join(reversed(code.split("\n\n\n")))


def laid_out(code: str) -> str:
    return re.sub(r"\n\n+", "\n", code).replace(", ", " , ").replace(" = ", "=").replace("'", '"')


def quoted(code: str) -> str:
    return re.sub(r'"(\w+)"', r"'\1'", code)


@pytest.mark.parametrize("change", [str, renamed, commented, reordered, laid_out, quoted,
                                    lambda code: reordered(commented(renamed(code)))])  # fmt: skip
@pytest.mark.parametrize("original", ["plain", "closure", "trainer_class"])
def test_similarity_finds_copies(codes: dict[str, str], boilerplate: str, change: object, original: str) -> None:
    """A copy is the only pair listed, whatever was changed on the surface."""
    copied = change(codes[original])  # type: ignore[operator]
    assert change is str or copied != codes[original]
    found = compare({**codes, "copy": copied}, boilerplate)
    assert [set(pair.students) for pair in found.pairs] == [{original, "copy"}]
    assert found.pairs[0].share > 0.85
    assert found.highest_below < THRESHOLD


# functions of a small lab, each written independently several times
SHORT_LAB = {
    "targets": """
def smoothed(logits, labels, epsilon):
    n, k = logits.shape
    targets = torch.full_like(logits, epsilon / k)
    targets[torch.arange(n), labels] += 1 - epsilon
    log_p = torch.log_softmax(logits, dim=1)
    return -(targets * log_p).sum(dim=1).mean()
""",
    "gathered": """
def smoothed(logits, labels, epsilon):
    log_p = F.log_softmax(logits, dim=-1)
    nll = -log_p.gather(1, labels.unsqueeze(1)).squeeze(1)
    uniform = -log_p.mean(dim=-1)
    loss = (1 - epsilon) * nll + epsilon * uniform
    return loss.mean()
""",
    "one_hot": """
def smoothed(logits, labels, epsilon):
    classes = logits.size(1)
    onehot = F.one_hot(labels, classes).float()
    soft = onehot * (1.0 - epsilon) + epsilon / classes
    logz = torch.logsumexp(logits, 1, keepdim=True)
    losses = ((logz - logits) * soft).sum(1)
    return losses.mean()
""",
    "two_losses": """
def smoothed(logits, labels, epsilon):
    if not 0 <= epsilon < 1:
        raise ValueError("epsilon")
    hard = F.cross_entropy(logits, labels)
    soft = -F.log_softmax(logits, 1).mean()
    return (1 - epsilon) * hard + epsilon * soft
""",
}


@pytest.mark.parametrize("original", SHORT_LAB)
def test_similarity_short_copies(original: str) -> None:
    """In a lab with one function of six lines, a copy with other names is the only pair listed."""
    copied = re.sub(
        r"\b(logits|labels|epsilon|targets|log_p|onehot|soft|hard|uniform|nll|logz)\b", r"my_\1", SHORT_LAB[original]
    )
    assert copied != SHORT_LAB[original]
    found = compare({**SHORT_LAB, "copy": copied}, "import torch\nfrom torch.nn import functional as F\n")
    assert (found.compared, found.left_out) == (5, {})
    assert [set(pair.students) for pair in found.pairs] == [{original, "copy"}]


def test_similarity_short_independent_solutions(boilerplate: str) -> None:
    """Independent solutions of one short function are not listed, though there are few ways to write it."""
    for cell in ("freeze_layers", "build_transfer_model"):
        codes = {variant.name: variant.sources.get(cell, PLAIN[cell]) for variant in INDEPENDENT}
        different = {code: name for name, code in codes.items()}
        found = compare({name: code for code, name in different.items()}, boilerplate)
        assert found.compared >= 8
        assert found.pairs == []


def test_similarity_very_short_code() -> None:
    """Code that can hardly be written in another way is not compared."""
    one_line = (
        "def smoothed(logits, labels, epsilon):\n    return F.cross_entropy(logits, labels, label_smoothing=epsilon)\n"
    )
    found = compare({"a": one_line, "b": one_line}, "")
    assert (found.compared, found.pairs) == (0, [])
    assert set(found.left_out.values()) == {"hardly any original code"}


def test_similarity_partial_copy(codes: dict[str, str], boilerplate: str) -> None:
    """A copied part is found if it is most of the code of one of the two."""
    mixed = "\n\n\n".join([*codes["plain"].split("\n\n\n")[:2], renamed(TRAIN), codes["closure"]])
    found = compare({**codes, "mixed": mixed}, boilerplate)
    assert {frozenset(pair.students) for pair in found.pairs} >= {frozenset({"plain", "mixed"})}


def test_similarity_independent_solutions(codes: dict[str, str], boilerplate: str) -> None:
    """Independent solutions are not listed."""
    assert len(codes) >= 17
    found = compare(codes, boilerplate)
    assert found.pairs == []
    assert found.compared == len(codes)
    assert 0.2 < found.highest_below < THRESHOLD
    # nor in classes of two, where code shared by the whole class is not discounted
    for one, other in combinations(["plain", "closure", "recursive"], 2):
        assert compare({one: codes[one], other: codes[other]}, boilerplate).pairs == []


def test_similarity_is_deterministic(codes: dict[str, str], boilerplate: str, tmp_path: Path) -> None:
    """Results are the same in every process, although Python's string hashes differ."""
    some = {name: codes[name] for name in ("plain", "closure")} | {"copy": renamed(codes["plain"])}
    (tmp_path / "codes.json").write_text(json.dumps([some, boilerplate]))
    program = (
        "import json, sys; from autograder.similarity.compare import compare; c, b = json.load(open(sys.argv[1]));"
        "json.dump([(p.students, p.shares, p.same, p.codes) for p in compare(c, b, 0.0).pairs], sys.stdout)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "codes.json")]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True)
    here = [(p.students, p.shares, p.same, p.codes) for p in compare(some, boilerplate, 0.0).pairs]
    assert len(here) == 3
    assert json.loads(done.stdout) == json.loads(json.dumps(here))


def test_similarity_ignores_release_code(boilerplate: str) -> None:
    """Code of the release does not count."""
    stubs = dict.fromkeys(("a", "b"), boilerplate)
    found = compare(stubs, boilerplate)
    assert (found.pairs, found.compared) == ([], 0)
    assert found.left_out == dict.fromkeys(stubs, "hardly any original code")
    assert compare({"a": "", "b": " \n"}, boilerplate).left_out == {"a": "no code", "b": "no code"}
    assert compare(stubs, "").pairs[0].share == 1


def test_similarity_ignores_common_code(codes: dict[str, str], boilerplate: str) -> None:
    """Code of most of the class, as from a lecture, does not count; code of a few does, even in a small class."""
    lecture = f"{TRAIN.replace('train_with_early_stopping', 'lecture')}\n\n\n"
    others = {name: code for name, code in codes.items() if name != "plain"}
    few = dict(list(others.items())[:2])
    assert len(compare({name: lecture + code for name, code in few.items()}, boilerplate).pairs) == 1
    assert compare({name: lecture + code for name, code in others.items()}, boilerplate).pairs == []


def test_similarity_marks_matching_code(codes: dict[str, str]) -> None:
    """Marks highlight the matching code."""
    copied = "class Helper:\n    '''Does nothing.'''\n    size = 3\n\n\n" + renamed(codes["plain"])
    (pair,) = compare({"a": codes["plain"], "b": copied}, "").pairs
    one, other = (re.findall(r"<mark>(.*?)</mark>", str(code), re.S) for code in pair.codes)
    assert one
    assert "Helper" not in other[0]
    assert "def freeze_layers" in other[0]
    assert sum(map(len, one)) > 0.9 * len(codes["plain"])


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def course(tmp_path: Path, release: NotebookNode) -> Path:
    """Three independent solutions, a copy whose text attacks the page, and unreadable files."""
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\n" + f"c.CourseDirectory.root = {str(tmp_path)!r}\n"
                                                 "c.CourseDirectory.release_directory = 'assignments'\n")  # fmt: skip
    (tmp_path / "assignments").symlink_to(ROOT / "assignments")
    by_name = {variant.name: variant for variant in INDEPENDENT}
    for name in ("plain", "closure", "recursive"):
        submit(tmp_path, name, notebook_of(by_name[name], release))
    evil = {cell: f"# {HOSTILE}\n{renamed(PLAIN[cell])}\nx = '''{HOSTILE}'''" for cell in PLAIN}
    submit(tmp_path, "<img src=x>&\u202e", json.dumps(notebook_of(Solution("x", sources=evil), release)).encode())
    submit(tmp_path, "letter", b"Dear TA")
    submit(tmp_path, "binary", bytes(range(256)) * 9)
    submit(tmp_path, "nothing", None)
    submit(tmp_path, "untouched", release)
    syntax = dict.fromkeys(PLAIN, "def (((" * 40 + "'''" + '"""' * 30 + "\\")
    submit(tmp_path, "broken", notebook_of(Solution("x", sources=syntax), release))
    return tmp_path


def test_similarity_page_and_table(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page and the table are safe to show, complete and neutral in tone."""
    monkeypatch.chdir(course)
    assert main(["similar", ASSIGNMENT]) == 0
    printed = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert "1 pair to review" in printed
    for student, why in (
        ("letter", "no code"),
        ("binary", "no code"),
        ("nothing", "no code"),
        ("untouched", "no code"),
    ):
        assert f"not compared: {student}, {why}" in printed
    html = (course / "reports" / f"{ASSIGNMENT}-similar.html").read_text()
    shown = Page(html)
    assert not {"script", "img", "iframe", "link", "object"} & set(shown.tags)
    assert all(address.startswith("#pair-") for address in shown.addresses)
    assert not {"\u202e", "\x1b", "\x00"} & set(html)
    assert "alert(1)" in shown.text  # as text
    assert "<script>alert(1)" in shown.text
    assert shown.tags.count("pre") == shown.tags.count("h2") - 1 == 2
    for word in ("plagiari", "cheat", "guilty", "copied"):
        assert word not in (shown.text.split("side by side")[0] + printed).lower()
    assert "no more than that" in shown.text


def test_similarity_code_in_other_cells(
    course: Path, release: NotebookNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Helper functions in other cells count, too."""
    hidden = notebook_of(Solution("x", sources={cell: f"{cell} = my_{cell}" for cell in PLAIN}), release)
    by_name = {variant.name: variant for variant in INDEPENDENT}
    moved = "\n\n".join(
        by_name["closure"].sources.get(cell, PLAIN[cell]).replace(f"def {cell}", f"def my_{cell}") for cell in PLAIN
    )
    hidden.cells.insert(1, nbformat.v4.new_code_cell(moved))
    submit(course, "elsewhere", hidden)
    monkeypatch.chdir(course)
    assert main(["similar", ASSIGNMENT, "--output", "out/page.html"]) == 0
    assert re.search(r"^closure +elsewhere ", capsys.readouterr().out, re.M)
    assert (course / "out" / "page.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-lab"], "there are: "),
        ([ASSIGNMENT, "--threshold", "50"], "between 0 and 1, not 50"),
        ([ASSIGNMENT], "fewer than two submissions for transfer-learning"),
    ],
)
def test_similarity_errors(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    """Wrong arguments and too few submissions are reported."""
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.release_directory = 'assignments'\n"
                                                 f"c.CourseDirectory.root = {str(tmp_path)!r}\n")  # fmt: skip
    (tmp_path / "assignments").symlink_to(ROOT / "assignments")
    submit(tmp_path, "only", b"")
    monkeypatch.chdir(tmp_path)
    assert main(["similar", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_similarity_large_classes_and_files(codes: dict[str, str], boilerplate: str) -> None:
    """Large classes and large files are compared in time."""
    random.seed(0)
    lines = [line for code in codes.values() for line in code.splitlines()]
    many = {f"s{i:03d}": "\n".join(random.sample(lines, 80)) for i in range(150)}
    began = time.process_time()
    found = compare(many, boilerplate)
    assert time.process_time() - began < 60  # typically about 10
    assert found.compared == 150
    assert len(printable("x\t\r\n" * 10**6)) == MAX_CODE
    assert len(page(found, "Lab", THRESHOLD)) < 10**6


def test_similarity_of_wrong_variants() -> None:
    """Samples made from one solution with one mistake each resemble copies with a small change."""
    some = {variant.name: code_of(variant) for variant in TYPICAL[:5]}
    assert {frozenset(pair.students) for pair in compare(some, "").pairs} == {
        frozenset(two) for two in combinations(some, 2)
    }
