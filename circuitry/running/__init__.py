"""Engines: the nnsight driver, the independent reference, guards, and ``patch``."""

from ..planning import METRICS
from .options import random_nodes
from .patching import explain, patch

__all__ = ["METRICS", "explain", "patch", "random_nodes"]
