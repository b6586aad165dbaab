"""Tools for instructors to write a lab and to release it."""
