"""``python -m autograder``: the command ``autograder``, also where the environment is not active."""

import sys

from autograder.cli import main

sys.exit(main())
