"""Grading in parallel, on all cores or on the workers of a Dask scheduler."""
