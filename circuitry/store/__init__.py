"""Files that are written whole, locks, and the check that nothing of a file is lost."""
