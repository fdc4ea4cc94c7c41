"""Patched runs computed only where they can differ from the run they are patched into: the executor that is used by default."""
