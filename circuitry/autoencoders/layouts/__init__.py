"""File layouts of other libraries: which of their settings are used, which are harmless, and which are refused (all others)."""
