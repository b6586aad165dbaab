"""A copy of the course in which commands run as after ``pip install -e``, for tests that follow the guides."""

from __future__ import annotations

import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "\x1e"  # before each command, in what a run prints
ROOT = Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a guide: a file if it has a title, otherwise commands (``bash``)."""

    language: str
    title: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """Return all fenced blocks, in order."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["language"], match["title"] or "", match["text"]) for match in found]


def steps_of(page: Path) -> Iterator[tuple[list[Block], list[str]]]:
    """Yield what a guide says, step by step: the files to write, and the commands to run after that."""
    files: list[Block] = []
    for is_file, blocks in itertools.groupby(blocks_of(page), key=lambda block: bool(block.title)):
        if is_file:
            files = list(blocks)
        else:
            yield files, [command for block in blocks for command in block.text.splitlines()]
            files = []
    if files:
        yield files, []


@dataclass(frozen=True)
class Done:
    """A command line and its output."""

    command: str
    output: str


class CourseCopy:
    """The files that git tracks or would add, with a virtual environment that has the packages of the current one.

    It is an environment rather than ``PYTHONPATH``, which the process that forks the submissions ignores.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "course"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
            if (ROOT / name).exists():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name, follow_symlinks=False)
        environment = folder / "environment"
        venv.create(environment, symlinks=True)
        self.python = environment / "bin" / "python"
        packages = sysconfig.get_path("purelib", "venv", {"base": str(environment)})
        Path(packages, "course.pth").write_text(f"{self.root}\n{sysconfig.get_path('purelib')}\n")

    def run(self, commands: list[str]) -> list[Done]:
        """Run command lines in the course, those of Python in one process; stop at the first that fails."""
        done = subprocess.run(
            [self.python, __file__],
            input="\n".join(commands),
            cwd=self.root,
            env={**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        ran = (part.partition("\n") for part in done.stdout.split(MARK)[1:])
        answers = [Done(command, output) for command, _, output in ran]
        assert done.returncode == 0, f"{answers[-1].command if answers else commands}\n{done.stdout[-4000:]}"
        return answers

    def write(self, name: str, text: str) -> None:
        """Write a file of the course."""
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")


def _run(command: str) -> int:
    """Run a command line, in this process if it is one of Python's, so that PyTorch is loaded only once."""
    program, *arguments = shlex.split(command)
    if program == "autograder":
        from autograder.cli import main

        return main(arguments)
    if program == "pytest":
        import pytest

        return pytest.main(["-p", "no:cacheprovider", *arguments])
    if program == "python" and arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    if program == "python":
        runpy.run_path(arguments[0], run_name="__main__")
        return 0
    return subprocess.run([program, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, which an installed command does not have
    for line in sys.stdin.read().splitlines():
        print(f"{MARK}{line}", flush=True)
        if code := _run(line):
            sys.exit(code)
        sys.stdout.flush()
