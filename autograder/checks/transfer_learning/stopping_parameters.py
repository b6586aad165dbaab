"""Numbers that people use in rules of early stopping."""

# numbers that people assume to be above any loss, and numbers of epochs of a warm-up
STARTS = (10, 100, 5, 2, 1, 0)
GRACE = (1, 2, 3, 4, 5)
# digits that people round to, and smallest improvements that they count where min_delta is 0
DIGITS = (3, 2, 1)
LEAST = (1e-4, 1e-3, 1e-2)
WINDOWS = (2, 3, 5)
