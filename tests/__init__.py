"""Tests of the library, of the grader and of the labs."""

# first: it keeps jsonschema from loading a package that takes two seconds in each process
import autograder  # noqa: F401
