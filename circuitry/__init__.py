"""circuitry: which components carry a behaviour, and along which paths, in Transformers and state-space models.

Importing it imports no torch; what needs torch loads when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .architecture import Graph, graph
from .errors import CircuitryError, GuardError, ModelError, PathError, TaskError
from .paths import Axis, Node, Path, Position, Site, axis, labelled, parse
from .planning import Intervention, Metric, given
from .prompting import Task, task

if TYPE_CHECKING:
    from . import universality
    from .claims import check
    from .evidence import Offsets, Scores, Sensitivity, off_by_one, score, sensitivity
    from .executing.open import executor
    from .features.activations import activations
    from .models import Model, load
    from .models.convert import convert
    from .models.loading import bundled
    from .patching import explain, patch, random_nodes
    from .results import Comparison, PatchingTable
    from .suites import Suite, SuiteResult, TableSpec, run, suite

__version__ = "0.1.0"

_LAZY = {
    "Comparison": "results",
    "Discovery": "discovery",
    "Model": "models",
    "Offsets": "evidence",
    "PatchingTable": "results",
    "Scores": "evidence",
    "Sensitivity": "evidence",
    "Suite": "suites",
    "SuiteResult": "suites",
    "TableSpec": "suites",
    "activations": "features.activations",
    "bundled": "models",
    "check": "claims",
    "convert": "models",
    "discover": "discovery",
    "executor": "executing.open",
    "explain": "patching",
    "load": "models",
    "off_by_one": "evidence",
    "patch": "patching",
    "random_nodes": "patching",
    "run": "suites",
    "score": "evidence",
    "sensitivity": "evidence",
    "suite": "suites",
}

__all__ = [
    "Axis",
    "CircuitryError",
    "Comparison",
    "Discovery",
    "Graph",
    "GuardError",
    "Intervention",
    "Metric",
    "Model",
    "ModelError",
    "Node",
    "Offsets",
    "PatchingTable",
    "Path",
    "PathError",
    "Position",
    "Scores",
    "Sensitivity",
    "Site",
    "Suite",
    "SuiteResult",
    "TableSpec",
    "Task",
    "TaskError",
    "activations",
    "axis",
    "bundled",
    "check",
    "convert",
    "discover",
    "executor",
    "explain",
    "given",
    "graph",
    "labelled",
    "load",
    "off_by_one",
    "parse",
    "patch",
    "random_nodes",
    "run",
    "score",
    "sensitivity",
    "suite",
    "task",
    "universality",
]


_PACKAGES = (
    "benchmarks",
    "claims",
    "compiled",
    "discovery",
    "drawing",
    "evidence",
    "executing",
    "features",
    "models",
    "paths",
    "patching",
    "planning",
    "prompting",
    "reports",
    "results",
    "store",
    "studies",
    "suites",
    "universality",
)


def __getattr__(name: str) -> Any:
    if name not in _LAZY and name not in _PACKAGES:
        raise AttributeError(f"module 'circuitry' has no attribute {name!r}")
    from importlib import import_module

    from .progress import IMPORTS, slow, without_widgets

    without_widgets()
    with slow(IMPORTS):
        module = import_module(f".{name if name in _PACKAGES else _LAZY[name]}", __name__)
    return module if name in _PACKAGES else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
