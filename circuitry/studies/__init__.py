"""Studies of several models: their circuits, aligned by role and depth, the paper's experiment on their features, and what these do."""

from .causal.of_experiment import causal_of
from .causal.result import Causal
from .causal.run import causal
from .circuits.compare import Circuits, circuits
from .experiment.result import Universality
from .experiment.run import experiment

__all__ = ["Causal", "Circuits", "Universality", "causal", "causal_of", "circuits", "experiment"]
