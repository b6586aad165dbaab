"""Ordinary nbgrader assignments, whose tests are code in the locked cells of their notebooks.

They are no labs: they have no settings, checks or reference here. Their points and comments are those of stock
nbgrader; what differs is where their notebooks run (:mod:`autograder.stock.notebook_run`).
"""
