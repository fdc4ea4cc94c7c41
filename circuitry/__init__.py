"""circuitry: which components carry a behaviour, and along which paths, in Transformers and state-space models.

Importing it imports no torch; what needs torch loads when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .architecture import Graph, graph
from .errors import CircuitryError, GuardError, ModelError, PathError, TaskError
from .paths import Axis, Node, Path, Position, Site, axis, parse
from .prompting import Task, task

if TYPE_CHECKING:
    from .models import Model, load
    from .models.loading import bundled
    from .results import PatchingTable
    from .running import explain, patch
    from .suites import SuiteResult
    from .suites.induction import induction

_LAZY = {
    "Model": "models",
    "PatchingTable": "results",
    "SuiteResult": "suites",
    "bundled": "models",
    "explain": "running",
    "induction": "suites",
    "load": "models",
    "patch": "running",
}

__all__ = [
    "Axis",
    "CircuitryError",
    "Graph",
    "GuardError",
    "Model",
    "ModelError",
    "Node",
    "PatchingTable",
    "Path",
    "PathError",
    "Position",
    "Site",
    "SuiteResult",
    "Task",
    "TaskError",
    "axis",
    "bundled",
    "explain",
    "graph",
    "induction",
    "load",
    "parse",
    "patch",
    "task",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'circuitry' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
