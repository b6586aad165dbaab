"""Hidden check of exercise 4."""

import pytest

from amllab.checks import expect
from amllab.checks.knowledge_distillation.accuracy_task import DistillationTask
from amllab.kit.task import measured, share_of_points, thresholds

pytestmark = pytest.mark.cell("check_accuracy", section="Exercise 4: what it is worth")


@pytest.mark.points(12)
def test_knows_new_images(submission, lab_settings, run_seed):
    """The student knows new images as well as this budget allows."""
    task = DistillationTask(lab_settings)
    wanted, reached = thresholds(task), measured(submission, task, run_seed)
    expect(
        task.score.reaches(reached.best, wanted["full"]),
        expected=f"a higher logit for the right species than for another one in at least "
        f"{task.score.text(wanted['full'])} of the pairs, after {task.budget_in_words}",
        seen=f"{reached}; between {task.score.text(wanted['start'])} and {task.score.text(wanted['full'])} there is a "
        "part of the points",
        why="all that the student can know comes from the teacher's answers",
        symptom="too little is learned",
        share=max(0.0, share_of_points(reached.best, wanted)),
    )
