"""Exports to Gradescope: the autograder's package, its run and its results."""
