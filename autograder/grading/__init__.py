"""Grading one submission."""
