"""Architectures as graphs: families, ports, position rules, and the networkx graph. Imports no torch."""

from ..paths.values import Node
from .definitions import definition, definition_for, model_types
from .families import Architecture, Family, Place
from .graph import Graph
from .hybrid import hybrid
from .named import graph
from .reach import Reach
from .rules import CAUSAL, NEXT, SAME, Edge, Rule, lag, part, window
from .state_space import selective
from .stream import LOGITS
from .transformer import sliding_layers, transformer

__all__ = [
    "CAUSAL",
    "LOGITS",
    "NEXT",
    "SAME",
    "Architecture",
    "Edge",
    "Family",
    "Graph",
    "Node",
    "Place",
    "Reach",
    "Rule",
    "definition",
    "definition_for",
    "graph",
    "hybrid",
    "lag",
    "model_types",
    "part",
    "selective",
    "sliding_layers",
    "transformer",
    "window",
]
