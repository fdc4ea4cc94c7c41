"""Sparse features: activations of nodes on a corpus, autoencoders trained on them, matches across models, and a dashboard."""

from ..autoencoders.sae import SAE
from .activations.corpus import Corpus, corpus
from .activations.stored import ActivationStore
from .activations.storing import store
from .activations.stream import Activations, activations
from .dashboard.page import write_dashboard
from .dashboard.scorer import scorer
from .matching.encode import encode
from .matching.matches import Matches
from .matching.mppc import mppc
from .matching.neurons import mppc_neurons
from .matching.store import FeatureActs
from .sae.evaluate import evaluate
from .sae.recipe import Recipe
from .sae.sweep import sweep
from .sae.swept import Sweep
from .sae.train import train_sae
from .sae.trained import Trained

__all__ = [
    "SAE",
    "ActivationStore",
    "Activations",
    "Corpus",
    "FeatureActs",
    "Matches",
    "Recipe",
    "Sweep",
    "Trained",
    "activations",
    "corpus",
    "encode",
    "evaluate",
    "mppc",
    "mppc_neurons",
    "scorer",
    "store",
    "sweep",
    "train_sae",
    "write_dashboard",
]
