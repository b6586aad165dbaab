"""Submissions with similar code: ``autograder similar``."""
