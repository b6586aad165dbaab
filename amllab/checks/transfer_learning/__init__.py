"""Transfer learning: public checks, probes and settings."""
