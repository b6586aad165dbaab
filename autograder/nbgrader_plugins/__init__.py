"""What nbgrader's own commands load by configuration."""
