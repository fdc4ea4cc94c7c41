"""Activations of graph nodes on text: documents, their tokens, and the values of nodes at those tokens."""

from .corpus import Corpus, corpus
from .stream import Activations, activations
from .texts import describe, documents

__all__ = ["Activations", "Corpus", "activations", "corpus", "describe", "documents"]
