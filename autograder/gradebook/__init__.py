"""nbgrader's records: assignments, submissions, timestamps, and whether a submission must be graded again."""
