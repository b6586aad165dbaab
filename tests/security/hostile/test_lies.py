"""Attacks that forge answers use the form that the checks accept, so an outdated form never stops them."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import amllab.protocol.submission
from amllab.checks.results import CheckResult, score
from amllab.checks.runner import run_checks
from amllab.checks.transfer_learning import probes
from amllab.lab import Lab, find_lab
from amllab.protocol.schema import declaration, schema_error
from amllab.protocol.submission import InProcessSubmission, Submission
from amllab.protocol.wire import pack, unpack
from autograder.checks.transfer_learning.corpus import PLAIN
from autograder.labs.locations import HIDDEN_CHECKS
from tests.conftest import ASSIGNMENT, forked
from tests.security.hostile.attacks import ATTACKS
from tests.security.hostile.lies import FINE, fine, lie

BY_NAME = {attack.name: attack for attack in ATTACKS}
IN_PROCESS = ("replaced_answer", "all_good", "replaced_pack", "replaced_probes", "replaced_modules")
# these write files, streams and memory that only a real worker reads; they tell the same lies
ELSEWHERE = ("shadowing_files", "every_descriptor", "racing_thread", "scripted_record")
LIES: dict[str, Callable[[dict[str, Any]], Any]] = {"lie": lie, "fine": lambda asked: fine(asked["probe"])}


class Lying(Submission):
    """Answers every question with a lie, and remembers the questions."""

    def __init__(self, lab: str, answer: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(lab)
        self.answer, self.seen = answer, dict[bytes, None]()

    def exchange(self, question: bytes) -> bytes:
        self.seen[question] = None
        return pack({"value": self.answer(unpack(question))})


def checked(lab: Lab, submission: Submission) -> list[CheckResult]:
    """Run all checks on a submission, with the plain solution as the reference."""
    namespace: dict[str, Any] = {}
    exec("import copy, timm, torch\nfrom amllab import layers_of, load_backbone\n", namespace)
    for source in PLAIN.values():
        exec(source, namespace)
    reference = InProcessSubmission(lab.name, namespace)
    return run_checks(lab, [lab.folder, HIDDEN_CHECKS / lab.name], submission, reference=lambda: reference, seed=1)


@pytest.fixture(scope="module")
def told() -> dict[str, tuple[Lying, list[CheckResult]]]:
    """The lies that were told to the checks, and what came of it."""
    lab = find_lab(ASSIGNMENT)
    liars = {name: Lying(lab.name, answer) for name, answer in LIES.items()}
    return {name: (liar, checked(lab, liar)) for name, liar in liars.items()}


def form_error(question: bytes, answer: bytes) -> str:
    """Return what is wrong with the form of an answer; empty if the checks look at it."""
    answered = unpack(answer)
    if answered.keys() != {"value"}:
        return f"a problem: {answered}"
    return schema_error(answered["value"], declaration(getattr(probes, unpack(question)["probe"])))


@pytest.mark.parametrize("name", LIES)
def test_lies_have_declared_form(told: dict[str, tuple[Lying, list[CheckResult]]], name: str) -> None:
    """Every false answer has the declared form, whatever the question."""
    questions = {**told["lie"][0].seen, **told["fine"][0].seen}
    asked = {unpack(question)["probe"] for question in questions}
    assert asked | {"predict"} == set(probes.__all__)
    wrong = {form_error(question, told[name][0].exchange(question)) for question in list(questions)}
    assert wrong == {""}


def test_lies_to_checks(told: dict[str, tuple[Lying, list[CheckResult]]]) -> None:
    """False answers break no check, and alone they earn less than three quarters of an exercise."""
    results = {name: result for name, (_, result) in told.items()}
    assert {r.outcome for found in results.values() for r in found} <= {"passed", "failed", "skipped"}
    assert score(results["fine"])[0] == 0
    for cell in {r.cell for r in results["lie"]}:
        earned, possible = score([r for r in results["lie"] if r.cell == cell])
        assert earned < 0.75 * possible
    assert score([r for r in results["lie"] if r.cell == "check_accuracy"])[0] == 0


@pytest.mark.parametrize("name", IN_PROCESS)
def test_attacks_answer_in_declared_form(
    told: dict[str, tuple[Lying, list[CheckResult]]], tmp_path: Path, name: str
) -> None:
    """After an attack's cell has run, the library sends false answers in the declared form."""
    questions = random.Random(0).sample(list(told["lie"][0].seen), 12)

    def attacked() -> None:
        namespace: dict[str, Any] = {}
        exec(BY_NAME[name].cell, namespace)
        for question in questions:
            print(base64.b64encode(amllab.protocol.submission.answer({}, question)).decode())

    done = forked(tmp_path, attacked, {})
    answers = [base64.b64decode(line) for line in done.stdout.split()]
    assert len(answers) == len(questions), done.stderr
    assert {form_error(*pair) for pair in zip(questions, answers, strict=True)} == {""}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_attacks_send_known_lies(name: str) -> None:
    """Attacks that send answers in another way use the same false answers."""
    cell = BY_NAME[name].cell
    assert FINE in cell or repr(FINE)[1:-1] in cell


def test_attacks_that_lie_are_listed() -> None:
    """Every attack that forges an answer is in one of the lists above."""
    lying = {attack.name for attack in ATTACKS if "def fine(" in attack.cell or '"returned"' in attack.cell}
    assert lying == {*IN_PROCESS, *ELSEWHERE, "standard_library"}
