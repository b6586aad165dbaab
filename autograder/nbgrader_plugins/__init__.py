"""Plugins that nbgrader's own commands load through its configuration."""
