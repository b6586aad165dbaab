"""Tests of isolation, limits, cleaning and attacks."""
