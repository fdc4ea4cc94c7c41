"""What ``benchmarks/patching.py`` is made of: the cases, plain hook loops that share no code with circuitry, the predicted floor."""
