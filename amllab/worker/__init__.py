"""The process that runs a notebook's cells and answers the questions of checks."""
