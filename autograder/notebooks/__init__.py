"""Submitted notebooks: normalized, sanitized and rendered."""
