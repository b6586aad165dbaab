"""Labs: settings, checks, wrong solutions, evidence."""
