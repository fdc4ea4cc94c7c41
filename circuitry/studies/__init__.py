"""Studies of several models: their circuits, aligned by role and depth, and the paper's experiment on their features."""

from .circuits.compare import Circuits, circuits
from .experiment.result import Universality
from .experiment.run import experiment

__all__ = ["Circuits", "Universality", "circuits", "experiment"]
