"""Benchmarks with known answers: how well methods of discovery find circuits that are known.

for case in ct.benchmarks.truth():       # models, tasks, and the edges at positions that carry them
    ...
ct.benchmarks.discovery().table()        # methods x families; `circuitry benchmark discovery` prints it
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases import Case, trained, truth
    from .measure import Benchmark, discovery

_WHERE = {"Benchmark": "measure", "Case": "cases", "discovery": "measure", "trained": "cases", "truth": "cases"}

__all__ = ["Benchmark", "Case", "discovery", "trained", "truth"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
