"""Engines: the nnsight driver, the independent reference, guards, and ``patch``."""

from ..executing.metrics import METRICS
from .patching import explain, patch

__all__ = ["METRICS", "explain", "patch"]
