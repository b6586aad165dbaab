"""The errors of the grader.

::

    AutograderError
    ├── CourseError                  of the course or of a machine: it ends a run of grading, and costs nobody points
    │   ├── ReferenceFailedError     the reference solution gave no answer
    │   ├── WorkerError              a worker did not start
    │   ├── IsolationError           this machine did not isolate a process
    │   └── ClusterError             the workers of the Dask scheduler cannot grade
    ├── SettingsError                a lab's settings
    ├── ChangedCellsError            the master has other graded cells than the gradebook
    ├── LeakError                    something secret is in a bundle
    ├── ThresholdError               no threshold tells right from wrong
    ├── NotGradedError               nothing of the assignment is graded yet
    ├── NotebookError                a submitted file that is no notebook
    └── ArchiveError                 an uploaded file that cannot be read
        └── ArchiveTooLargeError     beyond the limits of an upload

Commands print their messages, which say what is wrong, where, and which command ends the trouble.
"""


class AutograderError(Exception):
    """Any error that the grader itself raises."""


class CourseError(AutograderError):
    """A fault of the course or of a machine: it ends a run of grading, and costs nobody points."""


class ReferenceFailedError(CourseError):
    """The reference gave no answer: a fault of the course, never of a submission."""


class WorkerError(CourseError):
    """A worker did not start: a fault of the grading or its machine. Nothing of the submission has run."""


class IsolationError(CourseError):
    """This machine did not isolate a process; the message says at which layer, and why."""


class ClusterError(CourseError):
    """The workers of the Dask scheduler cannot grade: none is there, or what runs on them is another version."""


class SettingsError(AutograderError, ValueError):
    """Something is wrong with a lab's settings; the message says where, and what is expected."""


class ChangedCellsError(AutograderError, ValueError):
    """The master has other graded cells than the submissions in the gradebook; the message says what and for whom."""


class LeakError(AutograderError, ValueError):
    """Something secret is in the bundle; the message lists it."""


class ThresholdError(AutograderError, ValueError):
    """No threshold tells right from wrong at the rate that was asked for."""


class NotGradedError(AutograderError, LookupError):
    """Nothing of the assignment is graded yet; the message says what to run."""


class NotebookError(AutograderError, ValueError):
    """The file is no notebook; the message says what it is instead."""


class ArchiveError(AutograderError, ValueError):
    """It cannot be read; the message says why, and what to ask the student for."""


class ArchiveTooLargeError(ArchiveError):
    """The bounds of the whole upload are reached."""
