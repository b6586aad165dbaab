"""Self-supervised learning: public checks, probes and settings."""
