"""Tests that use JupyterLab and formgrader in a browser."""
