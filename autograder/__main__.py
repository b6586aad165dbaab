"""``python -m autograder``: the command ``autograder``, also where the environment is not active."""

import sys
from pathlib import Path

# Python has put the working directory first, which may be the folder of a submission
if not sys.flags.safe_path and Path.cwd() == Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
    del sys.path[0]

from autograder.cli import main

sys.exit(main())
