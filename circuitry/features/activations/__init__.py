"""Activations of graph nodes on text: documents, their tokens, and the values of nodes at those tokens."""

from .corpus import Corpus, corpus
from .stored import ActivationStore
from .storing import store
from .stream import Activations, activations
from .texts import describe, documents

__all__ = ["ActivationStore", "Activations", "Corpus", "activations", "corpus", "describe", "documents", "store"]
