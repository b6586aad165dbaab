"""Parallel grading of a class, on all cores or on the workers of a Dask scheduler."""
