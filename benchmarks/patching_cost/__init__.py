"""What ``benchmarks/patching.py`` is made of: the cases, plain hook loops without circuitry's code, the predicted floor."""
