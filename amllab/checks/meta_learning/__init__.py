"""Meta-learning: public checks, probes and settings."""
