"""The errors of the grader.

::

    AutograderError
    ├── CourseError                  a fault of the course or of a machine
    │   ├── ReferenceFailedError     the reference solution gave no answer
    │   ├── LabError                 a lab cannot be used, such as one whose probes do not import
    │   ├── WorkerError              a worker did not start
    │   ├── IsolationError           this machine did not isolate a process
    │   └── ClusterError             the workers of the Dask scheduler cannot grade
    ├── SettingsError                a lab's settings are invalid
    ├── ChangedCellsError            the master text has other graded cells than the gradebook
    ├── LeakError                    something secret is in a bundle
    ├── ThresholdError               no threshold distinguishes right from wrong
    ├── NotGradedError               nothing of the assignment is graded yet
    ├── NotebookError                a submitted file is not a notebook
    └── ArchiveError                 an uploaded file cannot be read
        └── ArchiveTooLargeError     an upload exceeds the limits

Commands print the messages of these errors, which say what is wrong, where, and which command fixes it.
"""


class AutograderError(Exception):
    """Any error that the grader itself raises."""


class CourseError(AutograderError):
    """A fault of the course or of a machine, which ends a grading run and costs nobody points."""


class ReferenceFailedError(CourseError):
    """A reference that gave no answer: a fault of the course, never of a submission."""


class LabError(CourseError):
    """A lab that cannot be used, such as one whose probes do not import; the message says why, and what to do."""


class WorkerError(CourseError):
    """A worker that did not start: a fault of the grader or its machine. Nothing of the submission has run."""


class IsolationError(CourseError):
    """A failure to isolate a process on this machine; the message says at which layer, and why."""


class ClusterError(CourseError):
    """A Dask scheduler whose workers cannot grade: there are none, or they run another version."""


class SettingsError(AutograderError, ValueError):
    """A mistake in a lab's settings; the message says where it is, and what is expected."""


class ChangedCellsError(AutograderError, ValueError):
    """A master text with other graded cells than the submissions in the gradebook.

    The message says which cells changed and for whom.
    """


class LeakError(AutograderError, ValueError):
    """Something secret in the bundle; the message lists it."""


class ThresholdError(AutograderError, ValueError):
    """A calibration in which no threshold distinguishes right from wrong at the required rate."""


class NotGradedError(AutograderError, LookupError):
    """An assignment of which nothing is graded yet; the message says what to run."""


class NotebookError(AutograderError, ValueError):
    """A file that is not a notebook; the message says what it is instead."""


class ArchiveError(AutograderError, ValueError):
    """An archive that cannot be read; the message says why, and what to ask the student for."""


class ArchiveTooLargeError(ArchiveError):
    """An upload that exceeds the limits for all its files together."""
