"""Tests of commands and of whole gradings."""
