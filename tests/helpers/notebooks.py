"""Submissions as notebooks."""

from __future__ import annotations

from nbformat import NotebookNode

from amllab.lab import find_lab
from autograder.labs.corpus import Corpus, Solution, corpus_of

CORPUS = corpus_of(find_lab("transfer-learning"))
ANSWER = "Fine-tuning four layers was best on my validation images, by more than the spread over seeds."


def notebook_of(solution: Solution, release: NotebookNode, corpus: Corpus = CORPUS) -> NotebookNode:
    """Return the released notebook with the functions of a solution, and an answer to its manually graded questions."""
    notebook = corpus.put_into(release, solution)
    for cell in notebook.cells:
        nbgrader = cell.metadata.get("nbgrader") or {}
        if nbgrader.get("grade") and nbgrader.get("solution"):
            cell.source = ANSWER
    return notebook
