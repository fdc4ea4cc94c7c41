"""The parts of ``benchmarks/patching.py``: the cases, plain hook loops without circuitry's code, the predicted floor."""
