"""Comparison of submissions by their code: ``autograder similar``."""
