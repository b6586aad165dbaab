"""Meta-learning: hidden checks."""
