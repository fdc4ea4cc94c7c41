"""Patching tables, their statistics and comparisons, figures and circuit diagrams."""

from .compare import Comparison
from .table import PatchingTable

__all__ = ["Comparison", "PatchingTable"]
