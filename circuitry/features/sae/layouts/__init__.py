"""Layouts of other libraries' files: for each, which settings are honoured, which are harmless, and that all others are refused."""
