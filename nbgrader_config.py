"""The course: its directories, and the grading pipeline."""

from pathlib import Path

from autograder import configure

c = get_config()

c.CourseDirectory.course_id = "advanced-machine-learning"
c.CourseDirectory.root = str(Path(__file__).parent)
c.CourseDirectory.source_directory = "source"
c.CourseDirectory.release_directory = "assignments"
c.CourseDirectory.solution_directory = "solutions"
c.CourseDirectory.submitted_directory = "submitted"
c.CourseDirectory.autograded_directory = "autograded"
c.CourseDirectory.feedback_directory = "feedback"
# "kept": models that a run of the solution keeps for the next lab
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc*", "__pycache__", "*.py", "kept"]

# the marking scheme is in the master's reflection cell; it goes into neither release nor solution
c.ClearMarkScheme.enforce_metadata = False

# the solution is run with its experiments: seconds for a cell, and for the outputs that follow it on a busy machine
c.Execute.timeout = 3600
c.Execute.iopub_timeout = 300
c.Execute.record_timing = False

configure(c)
