"""What instructors use to write a lab and to release it."""
