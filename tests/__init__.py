"""Tests of the library, of the grader and of the labs."""
