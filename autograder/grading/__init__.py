"""Grading of a single submission."""
