"""Sparse features: activations of nodes on a corpus, autoencoders trained on them, matches across models, and a dashboard."""

from .activations import Activations, Corpus, activations, corpus
from .dashboard import browser, scorer
from .matching import FeatureActs, Matches, mppc
from .matching.encode import encode
from .matching.neurons import mppc_neurons
from .sae import SAE, Recipe, Trained, evaluate, train_sae

__all__ = [
    "SAE",
    "Activations",
    "Corpus",
    "FeatureActs",
    "Matches",
    "Recipe",
    "Trained",
    "activations",
    "browser",
    "corpus",
    "encode",
    "evaluate",
    "mppc",
    "mppc_neurons",
    "scorer",
    "train_sae",
]
