"""Attacks and faults, each as the submission of a student in a class."""
