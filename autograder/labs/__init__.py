"""Labs: their settings, checks, wrong solutions and mutation studies."""
