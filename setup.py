"""The build step that ``pyproject.toml`` cannot express: wheels contain the notebooks and master texts of the labs.

In a checkout they are in ``assignments``, ``source`` and ``solutions``, where ``amllab.lab.released_notebooks`` and
``autograder.authoring.shipped`` find them.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# files of the checkout -> their folder in the wheel
RELEASES = {"assignments/[!.]*/*.ipynb": "amllab/releases"}
COURSES = {
    "source/[!.]*/*.py": "autograder/shipped/source",
    "solutions/[!.]*/*.ipynb": "autograder/shipped/solutions",
}


class BuildWithLabs(build_py):
    """Build the packages, and copy the files of the labs that students and courses get."""

    def run(self) -> None:
        """Build the packages, then copy the files unless the installation is editable."""
        super().run()
        if self.editable_mode:
            return
        for pattern, folder in {**RELEASES, **COURSES}.items():
            for file in sorted(Path().glob(pattern)):
                self._copy(file, Path(folder, file.parent.name, file.name))
        self._copy(Path("pyproject.toml"), Path("autograder/shipped/pyproject.toml"))

    def _copy(self, file: Path, place: Path) -> None:
        target = Path(self.build_lib, place)
        self.mkpath(str(target.parent))
        self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": BuildWithLabs})
