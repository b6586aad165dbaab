"""Results of a class, from the gradebook and from graded notebooks."""
