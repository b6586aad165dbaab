"""The subcommands of ``autograder``.

PyTorch, nbgrader and SQLAlchemy are imported by the commands that need them: help and completion start without.
"""
