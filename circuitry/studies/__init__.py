"""Studies of several models: their circuits, aligned by role and depth, and the paper's experiment on their features."""

from .circuits import Circuits, circuits
from .experiment import Universality, experiment

__all__ = ["Circuits", "Universality", "circuits", "experiment"]
