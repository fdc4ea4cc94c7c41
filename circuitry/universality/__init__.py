"""What several models have in common: circuits aligned by role and depth."""

from .circuits import Circuits, circuits

__all__ = ["Circuits", "circuits"]
