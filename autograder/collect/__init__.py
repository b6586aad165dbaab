"""Collecting what learning platforms let a teacher download, see :mod:`autograder.collect.plugins`."""
