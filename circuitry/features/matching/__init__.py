"""Features of two models matched by how they correlate: feature activations on disk, MPPC, the neuron baseline."""

from .matches import Matches
from .mppc import mppc
from .store import FeatureActs, feature_acts
from .writer import Writer

__all__ = ["FeatureActs", "Matches", "Writer", "feature_acts", "mppc"]
