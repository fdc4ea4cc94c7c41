"""Discovery: which edges carry a behaviour that nobody named beforehand, ranked by attribution and verified exactly.

found = ct.discover(model, task)         # a Discovery: ranking, table, agreement, curve
found.circuit(edges=40)                  # edges at positions, to draw and to score
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .circuit import EdgeCircuit
    from .curve import Curve
    from .hypothesis_tests import Hypotheses, hypotheses
    from .reading import read
    from .result import Discovery
    from .saving import save
    from .scores import EdgeScores, score_edges
    from .search import discover

_LAZY = {
    "Curve": "curve",
    "Discovery": "result",
    "EdgeCircuit": "circuit",
    "EdgeScores": "scores",
    "Hypotheses": "hypothesis_tests",
    "discover": "search",
    "hypotheses": "hypothesis_tests",
    "read": "reading",
    "save": "saving",
    "score_edges": "scores",
}

__all__ = [
    "Curve",
    "Discovery",
    "EdgeCircuit",
    "EdgeScores",
    "Hypotheses",
    "discover",
    "hypotheses",
    "read",
    "save",
    "score_edges",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
