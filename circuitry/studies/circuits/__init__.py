"""Circuits of several models aligned by step and depth."""

from .compare import Circuits, circuits

__all__ = ["Circuits", "circuits"]
