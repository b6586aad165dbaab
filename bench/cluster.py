"""Grade a class on a Dask cluster that loses a worker, and again on this machine only: ``python -m bench.cluster``

The scheduler and its two workers are processes of the command ``dask`` on this machine; one worker is killed when half
of the class has been graded. The gradebook must contain every student once, with the points that one process gives
when it grades one submission after the other.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import nbformat

from autograder.grading.cache import FOLDER as KEPT
from bench.throughput import FOLDER, Timed, autograde, mixed
from tests.conftest import ASSIGNMENT, NOTEBOOK, new_course, submit
from tests.helpers.dask_cluster import BUSY, Cluster


def course_of(folder: Path, number: int, settings: str) -> Path:
    folder.mkdir()
    course = new_course(folder)
    with (course / "nbgrader_config.py").open("a") as config:
        config.write(settings)
    release = nbformat.read(course / "assignments" / ASSIGNMENT / NOTEBOOK, as_version=4)
    for student, notebook in mixed(number, release).items():
        submit(course, student, notebook)
    return course


def killing(course: Path, cluster: Cluster, after: int) -> threading.Thread:
    """Kill a worker after a number of gradings have come back."""

    def kill() -> None:
        while len(list(course.glob(f"{KEPT}/*.json"))) < after:
            time.sleep(0.05)
        cluster.workers[0].kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def booked(course: Path) -> list[str]:
    """Count students by the rows of the gradebook that have automatic points for all grade cells."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course}/gradebook.db") as gradebook:
        submissions = gradebook.assignment_submissions(ASSIGNMENT)
        scored = [s for s in submissions for n in s.notebooks if any(g.auto_score is not None for g in n.grades)]
        return sorted(submission.student.id for submission in scored)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--submissions", type=int, default=12)
    number = parser.parse_args().submissions
    rows: list[tuple[Timed, int, bool]] = []
    print(f"{'':40}{'submissions':>12}{'seconds':>9}{'in the book':>13}{'points as one by one':>22}")
    with tempfile.TemporaryDirectory(prefix="cluster-") as base:
        for name in ("one process", "2 Dask workers", "2 Dask workers, one killed half-way"):
            cluster = Cluster(Path(base, f"cluster {len(rows)}"), BUSY)
            settings = "c.GradeChecks.jobs = 1\n"
            if rows:
                cluster.folder.mkdir()
                cluster.start_scheduler()
                for _ in range(2):
                    cluster.start_worker()
                settings = f"c.GradeChecks.scheduler = {cluster.address!r}\n"
            try:
                course = course_of(Path(base, f"course {len(rows)}"), number, settings)
                if len(rows) == 2:
                    killing(course, cluster, number // 2)
                run = autograde(course, name, number)
                if len(rows) == 2 and cluster.workers[0].poll() is None:
                    raise RuntimeError("the class was graded before the worker could be killed")
            finally:
                if rows:
                    cluster.stop()
            students = booked(course)
            same = not rows or run.points == rows[0][0].points
            rows.append((run, len(students), same))
            if len(students) != number or len(set(students)) != number:
                raise RuntimeError(f"{len(students)} rows for {number} students")
            print(
                f"{name:40}{number:>12}{run.seconds:>9.1f}{len(students):>13}{('yes' if same else 'NO') if rows[1:] else '':>22}",
                flush=True,
            )
    found = [{"name": r.name, "seconds": r.seconds, "booked": n, "same": same} for r, n, same in rows]
    FOLDER.joinpath("cluster.json").write_text(json.dumps({"submissions": number, "runs": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
