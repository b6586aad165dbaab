"""Submissions with one mistake each, and the means to check many of them quickly."""
