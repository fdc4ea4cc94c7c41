"""A run as one page to explore: the circuit, what its nodes do on each prompt, and what is left of it above a threshold.

Reads run folders; only ``observe``, which a run calls once, needs a model.
"""

from .page import write_explorer, write_pair

__all__ = ["write_explorer", "write_pair"]
