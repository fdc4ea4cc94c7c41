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
    from .results import PatchingTable
    from .running import explain, patch

_LAZY = {"load": "models", "Model": "models", "patch": "running", "explain": "running", "PatchingTable": "results"}

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
    "Task",
    "TaskError",
    "axis",
    "explain",
    "graph",
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
