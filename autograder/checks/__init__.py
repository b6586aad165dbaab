"""Hidden checks of all labs, a package for each lab."""

from amllab.lab import HIDDEN, search_course

search_course(__path__, HIDDEN)
