"""The probes of a lab, tried before anything is built or graded: they import, and what they rely on exists."""

from __future__ import annotations

from amllab.lab import Lab
from amllab.protocol.lab_probes import ProbesError, probes_of
from amllab.worker.integrity import why_not_trusted
from autograder.labs.settings import line_of


def probe_problems(lab: Lab) -> list[str]:
    """Return a message if the probes do not import, or one for each trusted function that does not exist."""
    try:
        probes_of(lab.name)
    except ProbesError as error:
        return [str(error)]
    file = lab.folder / "lab.toml"
    problems = []
    for name in lab.trusted:
        if reason := why_not_trusted(name):
            line = line_of(file.read_text(encoding="utf-8"), ("probes", "trusted"))
            problems.append(f"{lab.name}/{file.name}, line {line}: probes.trusted: {name!r}: {reason}")
    return problems
