"""Self-supervised learning: hidden checks."""
