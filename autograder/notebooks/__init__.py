"""Reading, normalizing, sanitizing and rendering of submitted notebooks."""
