"""Engines: the nnsight driver, the independent reference, guards, and ``patch``."""

from ..planning import METRICS
from .patching import explain, patch

__all__ = ["METRICS", "explain", "patch"]
