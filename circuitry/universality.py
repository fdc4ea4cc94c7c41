"""What several models have in common: their circuits, aligned by role and depth, and their sparse features, matched by activation."""

from .features import browser, corpus, evaluate, judge, mppc
from .features.activations.corpus import Corpus
from .features.activations.stream import Activations, activations
from .features.matching.encode import encode
from .features.matching.matches import Matches
from .features.matching.neurons import mppc_neurons
from .features.matching.store import FeatureActs
from .features.sae.recipe import Recipe
from .features.sae.sae import SAE
from .features.sae.train import train_sae
from .features.sae.trained import Trained
from .studies.circuits.compare import Circuits, circuits
from .studies.experiment.result import Universality
from .studies.experiment.run import experiment

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
