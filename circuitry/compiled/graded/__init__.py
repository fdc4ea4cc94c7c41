"""Graded models: compiled models from seeds, whose circuits are known and whose effects are not all or nothing.

made = graded("mamba", 3)
model = ct.load(made.hf)    # a model like any other
made.truth                  # every node and edge that matters in it
"""

from .build import FAMILIES, Graded, catalogue, graded

__all__ = ["FAMILIES", "Graded", "catalogue", "graded"]
