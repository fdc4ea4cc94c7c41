"""What models share: their circuits, aligned by role and depth, their sparse features, matched by activation, and what these do."""

from .autoencoders.sae import SAE
from .features.activations.corpus import Corpus, corpus
from .features.activations.stored import ActivationStore
from .features.activations.storing import store
from .features.activations.stream import Activations, activations
from .features.dashboard.page import write_dashboard
from .features.dashboard.scorer import scorer
from .features.matching.encode import encode
from .features.matching.matches import Matches
from .features.matching.mppc import mppc
from .features.matching.neurons import mppc_neurons
from .features.matching.store import FeatureActs
from .features.sae.evaluate import evaluate
from .features.sae.recipe import Recipe
from .features.sae.sweep import sweep
from .features.sae.swept import Sweep
from .features.sae.train import train_sae
from .features.sae.trained import Trained
from .studies.causal.of_experiment import causal_of
from .studies.causal.result import Causal
from .studies.causal.run import causal
from .studies.circuits.compare import Circuits, circuits
from .studies.experiment.result import Universality
from .studies.experiment.run import experiment

__all__ = [
    "SAE",
    "ActivationStore",
    "Activations",
    "Causal",
    "Circuits",
    "Corpus",
    "FeatureActs",
    "Matches",
    "Recipe",
    "Sweep",
    "Trained",
    "Universality",
    "activations",
    "causal",
    "causal_of",
    "circuits",
    "corpus",
    "encode",
    "evaluate",
    "experiment",
    "mppc",
    "mppc_neurons",
    "scorer",
    "store",
    "sweep",
    "train_sae",
    "write_dashboard",
]
