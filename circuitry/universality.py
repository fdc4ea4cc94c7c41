"""What models share: their circuits, aligned by role and depth, and their sparse features, matched by activation."""

from .features import (
    SAE,
    Activations,
    Corpus,
    FeatureActs,
    Matches,
    Recipe,
    Trained,
    activations,
    browser,
    corpus,
    encode,
    evaluate,
    mppc,
    mppc_neurons,
    scorer,
    train_sae,
)
from .studies import Circuits, Universality, circuits, experiment

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
    "mppc",
    "mppc_neurons",
    "scorer",
    "train_sae",
]
