"""Transfer learning: hidden checks."""
