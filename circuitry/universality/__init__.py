"""What several models have in common: their circuits, aligned by role and depth, and their sparse features, matched by activation."""

from .activations import Activations, Corpus, activations, corpus
from .circuits import Circuits, circuits
from .experiment import Universality, experiment
from .features import browser, judge
from .matching import FeatureActs, Matches, mppc
from .matching.encode import encode
from .matching.neurons import mppc_neurons
from .sae import SAE, Recipe, Trained, evaluate, train_sae

__all__ = [
    "SAE",
    "Activations",
    "Circuits",
    "Corpus",
    "FeatureActs",
    "Matches",
    "Recipe",
    "Trained",
    "Universality",
    "activations",
    "browser",
    "circuits",
    "corpus",
    "encode",
    "evaluate",
    "experiment",
    "judge",
    "mppc",
    "mppc_neurons",
    "train_sae",
]
