"""Gradescope: the autograder's package, its run, its results."""
