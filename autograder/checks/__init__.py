"""Hidden checks of all labs, a package for each lab."""
