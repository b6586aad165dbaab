"""Tests of one module or function each."""
