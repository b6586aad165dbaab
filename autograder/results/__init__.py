"""Results of a class, from the gradebook and the graded notebooks."""
