"""Discovery: which edges carry a behaviour that nobody named beforehand, ranked by attribution and verified exactly.

found = ct.discover(model, task)         # a Discovery: ranking, table, agreement, curve
found.circuit(edges=40)                  # edges at positions, to draw and to score
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "Curve": "curve",
    "read": "reading",
    "save": "saving",
    "Discovery": "result",
    "EdgeCircuit": "circuit",
    "EdgeScores": "scores",
    "Hypotheses": "hypothesis_tests",
    "discover": "search",
    "hypotheses": "hypothesis_tests",
    "score_edges": "scores",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
