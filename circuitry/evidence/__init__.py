"""Evidence about a behaviour beyond one table: is it the circuit, does it depend on the method, and where is a token written.

Saved results can be read without torch. Modules that need torch are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .offsets import off_by_one
from .offsets_result import Offsets, Verdict

if TYPE_CHECKING:
    from .grid import Sensitivity, sensitivity
    from .scores import Scores, score

_LAZY = {"Scores": "scores", "Sensitivity": "grid", "score": "scores", "sensitivity": "grid"}

__all__ = ["Offsets", "Scores", "Sensitivity", "Verdict", "off_by_one", "score", "sensitivity"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
