"""Public check of exercise 4: the functions together learn from a teacher."""

import pytest

from amllab.checks import expect
from amllab.checks.knowledge_distillation.accuracy_task import DistillationTask
from amllab.kit.task import measured, thresholds

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: what it is worth")


@pytest.mark.points(8)
def test_learns_from_the_teacher(submission, lab_settings, run_seed):
    """Trained with your functions, a student gets from its teacher's answers what it needs to know of new images."""
    task = DistillationTask(lab_settings)
    start, reached = thresholds(task)["start"], measured(submission, task, run_seed)
    expect(
        task.score.beats(reached.best, start),
        expected=f"a higher logit for the right species than for another one in more than {task.score.text(start)} of "
        f"the pairs, after {task.budget_in_words}",
        seen=str(reached),
        why="a student that learns nothing from its teacher is right in half of the pairs",
        symptom="little is learned from the teacher",
    )
