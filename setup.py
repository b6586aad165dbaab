"""The build step that ``pyproject.toml`` cannot express: wheels contain the released notebooks.

In a checkout they are in ``assignments``, and ``amllab.lab.released_notebooks`` finds them there.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithReleases(build_py):
    """Build the packages, and copy the released notebooks to ``amllab/releases``."""

    def run(self) -> None:
        """Build the packages, then copy the notebooks unless the installation is editable."""
        super().run()
        if self.editable_mode:
            return
        for notebook in sorted(Path("assignments").glob("[!.]*/*.ipynb")):
            target = Path(self.build_lib, "amllab", "releases", notebook.parent.name, notebook.name)
            self.mkpath(str(target.parent))
            self.copy_file(str(notebook), str(target))


setup(cmdclass={"build_py": BuildWithReleases})
