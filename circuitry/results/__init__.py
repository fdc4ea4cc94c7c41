"""Patching tables, figures and circuit diagrams."""

from .table import PatchingTable

__all__ = ["PatchingTable"]
