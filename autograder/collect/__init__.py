"""Collection of downloads from learning platforms; see :mod:`autograder.collect.plugins`."""
