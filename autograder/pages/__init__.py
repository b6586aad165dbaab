"""The pages that nbgrader makes from graded notebooks: feedback for students, and formgrader's page of a submission.

nbgrader finds the templates here before its own (:func:`autograder.configure`), for labs and for all other assignments.
What a template shows beyond the notebook comes from a filter (:mod:`autograder.pages.summary`) or a preprocessor
(:mod:`autograder.pages.grader_notes`). Pages load nothing from elsewhere, so they work offline.
"""
