"""Records of nbgrader: the assignment, submissions, times, and whether something has to be graded again."""
