"""What ``benchmarks/mutation.py`` is made of: changes of source, which tests reach what, and one process a mutant."""
