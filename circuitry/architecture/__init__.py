"""Architectures as graphs: families, ports, position rules, and the networkx graph. Imports no torch."""

from ..paths.values import Node
from .convolution import short_conv
from .definitions import definition, definition_for, model_types
from .duality import duality
from .families import Architecture, Family, Place
from .graph import Graph
from .griffin import rg_lru
from .layered import attention, gated_attention, layered, mlp, selective_mixer
from .linear_state import delta_mixer
from .named import graph
from .reach import Reach
from .rules import CAUSAL, NEXT, SAME, Edge, Rule, lag, part, window
from .shared import shared
from .state_space import selective
from .stream import LOGITS, stream
from .token_shift import shift, taps
from .transformer import sliding, transformer

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
    "attention",
    "definition",
    "definition_for",
    "delta_mixer",
    "duality",
    "gated_attention",
    "graph",
    "lag",
    "layered",
    "mlp",
    "model_types",
    "part",
    "rg_lru",
    "selective",
    "selective_mixer",
    "shared",
    "shift",
    "short_conv",
    "sliding",
    "stream",
    "taps",
    "transformer",
    "window",
]
