"""Graded models: compiled models from seeds, whose circuits are known and whose effects are not all or nothing.

model = ct.compiled.graded.graded("mamba", 3)
ct.load(model.hf)
model.truth
"""

from .build import FAMILIES, Graded, catalogue, graded

__all__ = ["FAMILIES", "Graded", "catalogue", "graded"]
